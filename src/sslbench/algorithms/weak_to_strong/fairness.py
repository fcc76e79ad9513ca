"""A term that keeps the predictions for accepted images spread over the classes."""

from typing import final

import torch
from torch import Tensor, nn

from sslbench.algorithms.weak_to_strong.averages import move_average
from sslbench.algorithms.weak_to_strong.protocol import Predictions
from sslbench.checks import check_decay, check_not_negative
from sslbench.core import DataSpec
from sslbench.losses import one_hot

#: Added within the logarithm: a class that no strong view is given has a share of 0.
EPSILON = 1e-12


def _share(predicted: Tensor, histogram: Tensor) -> Tensor:
    """``predicted / histogram``, both ``[K]``, normalised; 0 where the histogram is."""
    present = histogram > 0
    ratio = torch.where(present, predicted / torch.where(present, histogram, 1), 0)
    return ratio / torch.where(present.any(), ratio.sum(), 1)


@final
class Fairness(nn.Module):
    """Self-adaptive fairness of FreeMatch (arXiv:2205.07246, section 4.2, eq. 11).

    ``sum_k a(k) log b(k)``, where a is the average prediction at weak views over the average histogram of its
    classes, and b the same of the accepted images of the batch at their strong views, each normalised. It is
    minus a cross-entropy, mostly negative, and **added** to the loss: the cross-entropy is to grow. The
    gradient goes through the mean prediction of b; histograms have none. The averages begin at 1/K, and the
    present batch enters them first. Without an accepted image, the term is 0.

    Checked against TorchSSL and microsoft/Semi-supervised-learning, whose issue #182 confirms the sign.
    `FixMatch` multiplies the term by the weight of the pseudo-labels too, which is 1 there.

    Args:
        decay: of the averages, in [0, 1).
        weight: of the term, not negative.
    """

    name = "fairness"
    needs_features = False
    predicted: Tensor
    histogram: Tensor

    def __init__(self, decay: float, weight: float) -> None:
        super().__init__()
        check_decay(decay=decay)
        check_not_negative(weight=weight)
        self._decay, self.weight = decay, weight

    def prepare(self, spec: DataSpec, student: nn.Module) -> None:
        """See `Stateful.prepare`."""
        even = torch.full((spec.num_classes,), 1 / spec.num_classes)
        self.register_buffer("predicted", even)
        self.register_buffer("histogram", even.clone())

    def forward(self, predictions: Predictions, targets: Tensor, weights: Tensor) -> Tensor:
        weak = predictions.aligned
        move_average(self.predicted, weak.mean(dim=0), self._decay)
        move_average(self.histogram, _hard(weak).mean(dim=0), self._decay)

        accepted = (weights > 0)[:, None]
        strong = predictions.strong.softmax(dim=1)
        # Sums serve as means here: both are normalised.
        mean = (strong * accepted).sum(dim=0)
        histogram = (_hard(strong.detach()) * accepted).sum(dim=0)
        term = (_share(self.predicted, self.histogram) * (_share(mean, histogram) + EPSILON).log()).sum()
        return term * accepted.any()


def _hard(probabilities: Tensor) -> Tensor:
    return one_hot(probabilities.argmax(dim=1), probabilities.shape[1], probabilities.dtype)
