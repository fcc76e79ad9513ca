"""A term on uncertain images, from which the classes that make them uncertain are left out."""

from typing import final

import torch
from torch import Tensor, nn

from sslbench.algorithms.weak_to_strong.other_classes import ranks
from sslbench.algorithms.weak_to_strong.protocol import Predictions
from sslbench.checks import check_decay, check_probability
from sslbench.core import DataSpec
from sslbench.losses import one_hot


@final
class ShrunkClasses(nn.Module):
    """ShrinkMatch, arXiv:2308.06777, with its auxiliary head (github.com/LiheYoung/ShrinkMatch, CIFAR).

    For an image whose greatest aligned probability is below the threshold, the classes after the first are
    left out in their order, at least one, until the first reaches the threshold among those that remain. Its
    loss is the cross-entropy of the first class among these, at the strong view, by a head of its own; it is
    0 where the first class never reaches it, with two classes remaining at least. Two factors: the image's
    greatest probability, and the moving average of the mean weight of pseudo-labels, which begins at its
    first value. The mean is over all unlabelled images.

    The head has two hidden layers of a quarter of the features' width, and is not evaluated. Deviation: the
    average goes on for the whole run, while the authors' code begins anew every 1024 steps, although it takes
    care to hand the average on.

    Args:
        threshold: that of the pseudo-labels, in [0, 1].
        decay: of the average, in [0, 1).

    Raises:
        ValueError: from `prepare`: there are two classes only, or the student has no linear classifier.
    """

    name = "shrunk"
    weight = 1.0
    needs_features = True
    certain: Tensor
    has_begun: Tensor

    def __init__(self, threshold: float, decay: float) -> None:
        super().__init__()
        check_probability(threshold=threshold)
        check_decay(decay=decay)
        self._threshold, self._decay = threshold, decay

    def prepare(self, spec: DataSpec, student: nn.Module) -> None:
        """See `Stateful.prepare`."""
        if spec.num_classes < 3:
            raise ValueError(f"{self.name} needs three classes or more, and the data have {spec.num_classes}")
        classifier = student.classifier
        if not isinstance(classifier, nn.Linear):
            raise ValueError(f"{self.name} needs a model whose classifier is a linear layer")
        self.head = new_head(classifier.in_features, spec.num_classes)
        self.register_buffer("certain", torch.zeros(()))
        self.register_buffer("has_begun", torch.zeros((), dtype=torch.bool))

    def forward(self, predictions: Predictions, targets: Tensor, weights: Tensor) -> Tensor:
        assert predictions.features is not None
        aligned = predictions.aligned
        confidence, label = aligned.max(dim=1)
        removed, reached = classes_to_remove(aligned, self._threshold)
        log_p = self.head(predictions.features).masked_fill(removed, -torch.inf).log_softmax(dim=1)
        losses = -torch.where(one_hot(label, aligned.shape[1], torch.bool), log_p, 0).sum(dim=1)
        factor = confidence * (reached & (confidence < self._threshold))
        return (factor * losses).mean() * self._move(weights.mean())

    def _move(self, share: Tensor) -> Tensor:
        """The average after a step in which pseudo-labels have the mean weight `share`; both ``[]``."""
        share = share.to(self.certain.dtype)
        moved = torch.where(self.has_begun, self.certain.lerp(share, 1 - self._decay), share)
        self.certain.copy_(moved)
        self.has_begun.fill_(value=True)
        return moved


def classes_to_remove(probabilities: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """The classes that are left out, and whether the first then reaches the threshold.

    Without those of the places 1 to c - 1, the first has ``p_0 / (p_0 + the sum from p_c on)``; c is the
    least number from 2 to K - 1 with which this reaches the threshold, or K - 1.

    Args:
        probabilities: ``[U, K]``.
        threshold: in [0, 1].

    Returns:
        Marks ``[U, K]``, and ``[U]``.
    """
    ordered = probabilities.sort(dim=1, descending=True).values
    remaining = ordered.flip(1).cumsum(dim=1).flip(1)[:, 2:]  # the sum from p_c on, for each c
    reached = ordered[:, :1] / (ordered[:, :1] + remaining) >= threshold
    first = 2 + (~reached).sum(dim=1, keepdim=True)
    place = ranks(probabilities)
    return (place > 0) & (place < first.clamp(max=probabilities.shape[1] - 1)), reached.any(dim=1)


def new_head(features: int, num_classes: int) -> nn.Sequential:
    """From features ``[U, features]`` to logits ``[U, num_classes]``."""
    width = max(features // 4, 1)
    layers: list[nn.Module] = []
    for inputs in (features, width):
        layers += [nn.Linear(inputs, width, bias=False), nn.BatchNorm1d(width), nn.LeakyReLU(0.1)]
    return nn.Sequential(*layers, nn.Linear(width, num_classes))
