"""What the strong view should not be: terms on the classes beside the pseudo-label."""

from typing import final

import torch
from torch import Tensor, nn

from sslbench.algorithms.weak_to_strong.protocol import Predictions
from sslbench.checks import check_probability
from sslbench.losses import one_hot


@final
class OtherClasses(nn.Module):
    """Adaptive negative learning and the entropy meaning loss (FullMatch, arXiv:2303.11066).

    k is the least number, from 2, such that the k classes most probable at the strong view have the
    pseudo-label among them, for each image of the batch. The classes after the first k of the weak view are
    the negatives of an image. With y the most probable class of the weak view, p the probabilities at the
    strong view, and all classes with p above ``threshold ** 2`` left out of either loss:

    - ``mean over x of the sum over negatives j of -log(1 - p_j)``, for all unlabelled images;
    - the mean binary cross-entropy between p_j and ``(1 - p_y - sum of p over negatives) / (k - 1)``, for the
      classes j among the first k but y, of the images whose pseudo-labels count. The mean is over these
      elements. It draws the classes between y and the negatives to one level.

    The term is the sum of both, each with factor 1. All is as in the authors' code
    (github.com/megvii-research/FullMatch). Deviations: the level of the second loss is a constant here, while
    the authors' code has a gradient through it; the weight of the unlabelled term multiplies this term too,
    which makes no difference at their weight of 1.

    Args:
        threshold: that of the pseudo-labels, in [0, 1].
    """

    name = "other_classes"
    weight = 1.0
    needs_features = False

    def __init__(self, threshold: float) -> None:
        super().__init__()
        check_probability(threshold=threshold)
        self._limit = threshold**2

    def forward(self, predictions: Predictions, targets: Tensor, weights: Tensor) -> Tensor:
        weak, strong = predictions.weak, predictions.strong.softmax(dim=1)
        label = weak.argmax(dim=1)
        is_label = one_hot(label, weak.shape[1], torch.bool)
        num_first = first_classes(predictions.strong.detach(), is_label)
        is_negative = ranks(weak) >= num_first
        open_to_loss = strong.detach() <= self._limit

        negatives = is_negative & open_to_loss
        negative = -(torch.log1p(-torch.where(negatives, strong, 0).clamp(max=1 - 1e-7))).sum(dim=1).mean()

        between = ~is_negative & ~is_label
        level = (strong.detach() * between).sum(dim=1, keepdim=True) / (num_first - 1)
        counts = (between & open_to_loss) * weights[:, None]
        inside = torch.where(counts > 0, strong, 0.5).clamp(1e-7, 1 - 1e-7)
        cross_entropies = -(level * inside.log() + (1 - level) * torch.log1p(-inside))
        meaning = (counts * cross_entropies).sum() / counts.sum().clamp(min=1)
        return negative + meaning


def first_classes(strong: Tensor, is_label: Tensor) -> Tensor:
    """k: from the strong logits and the marks of the pseudo-labels, both ``[U, K]``, int64 ``[]``."""
    of_label = (strong * is_label).sum(dim=1, keepdim=True)
    return ((strong > of_label).sum(dim=1).max() + 1).clamp(min=2)


def ranks(scores: Tensor) -> Tensor:
    """The place of each class in the order of falling scores, from 0: ``[U, K]`` to int64 ``[U, K]``."""
    return scores.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
