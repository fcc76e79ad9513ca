"""Weights of 0 and 1: a pseudo-label counts where the prediction is confident."""

from typing import final

from torch import Tensor, nn

from sslbench.algorithms.weak_to_strong.protocol import Predictions
from sslbench.checks import check_probability


@final
class FixedThreshold(nn.Module):
    """1 where the greatest aligned probability reaches the threshold (FixMatch, arXiv:2001.07685, eq. 4).

    Args:
        threshold: in [0, 1].
    """

    def __init__(self, threshold: float) -> None:
        super().__init__()
        check_probability(threshold=threshold)
        self._threshold = threshold

    def forward(self, predictions: Predictions) -> Tensor:
        aligned = predictions.aligned
        return (aligned.amax(dim=1) >= self._threshold).to(aligned.dtype)
