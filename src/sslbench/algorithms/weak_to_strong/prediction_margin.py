"""Predictions without the classes' own popularity."""

from typing import final

import torch
from torch import Tensor, nn

from sslbench.checks import check_decay, check_not_negative
from sslbench.core import DataSpec


@final
class PredictionMargin(nn.Module):
    """Takes ``tau log q`` off the weak logits, and adds it to the strong ones (DebiasPL, arXiv:2201.01490).

    q ``[K]`` is a moving average of the mean prediction at the weak views, as the model gives it; it begins
    at 1/K. The prediction is corrected by q as it was before the step, the logits by q after it, as in the
    authors' code (github.com/frank-xwang/debiased-pseudo-labeling).

    Deviation: the authors' optional parts are left out: a momentum encoder, several views, a clustering loss.

    Args:
        strength: tau, not negative; 0 corrects nothing.
        decay: of the average, in [0, 1).
    """

    average: Tensor

    def __init__(self, strength: float, decay: float) -> None:
        super().__init__()
        check_not_negative(strength=strength)
        check_decay(decay=decay)
        self._strength, self._decay = strength, decay

    def prepare(self, spec: DataSpec, student: nn.Module) -> None:
        """See `Stateful.prepare`."""
        self.register_buffer("average", torch.full((spec.num_classes,), 1 / spec.num_classes))

    def forward(self, probabilities: Tensor, labelled: Tensor) -> Tensor:
        corrected = (probabilities.log() - self._margin(probabilities.dtype)).softmax(dim=1)
        mean = probabilities.mean(dim=0).to(self.average.dtype)
        self.average.lerp_(mean, 1 - self._decay)
        return corrected

    def adjust(self, logits: Tensor) -> Tensor:
        """The logits plus ``tau log q``, ``[U, K]``."""
        return logits + self._margin(logits.dtype)

    def _margin(self, dtype: torch.dtype) -> Tensor:
        return self._strength * self.average.clamp(min=1e-12).log().to(dtype)
