"""A term on the images whose pseudo-labels do not count."""

from typing import final

from torch import Tensor, nn

from sslbench.algorithms.weak_to_strong.protocol import Predictions
from sslbench.checks import check_not_negative, check_positive
from sslbench.losses import kl
from sslbench.losses.mixup import sharpen


@final
class UncertainImages(nn.Module):
    """``mean (1 - m(x)) KL(q, p)`` over unlabelled x, with soft targets (ReFixMatch, arXiv:2308.07509).

    q is the aligned weak prediction and p the strong one, both of the temperature T. The mean is over all
    unlabelled images. Unverified: whether the paper has the temperature on both sides, as the code in
    github.com/microsoft/Semi-supervised-learning has. That code takes the softmax of probabilities for q, so
    that no target is above 0.45 with 10 classes; here q is sharpened.

    Args:
        temperature: above 0.
        weight: factor of the term beside FixMatch's own, not negative.
    """

    name = "uncertain"
    needs_features = False

    def __init__(self, temperature: float, weight: float = 1.0) -> None:
        super().__init__()
        check_positive(temperature=temperature)
        check_not_negative(weight=weight)
        self._temperature, self.weight = temperature, weight

    def forward(self, predictions: Predictions, targets: Tensor, weights: Tensor) -> Tensor:
        soft = sharpen(predictions.aligned, self._temperature)
        return ((1 - weights) * kl(predictions.strong / self._temperature, soft)).mean()
