"""Weights between 0 and 1 that fall off below the average confidence."""

from typing import final

import torch
from torch import Tensor, nn

from sslbench.algorithms.weak_to_strong.averages import move_average
from sslbench.algorithms.weak_to_strong.protocol import Predictions
from sslbench.checks import check_decay, check_positive
from sslbench.core import DataSpec


@final
class TruncatedGaussian(nn.Module):
    """SoftMatch (Chen et al. 2023, arXiv:2301.10921), section 3.

    ``exp(-min(c - mean, 0)^2 / (2 variance / num_sigmas^2))`` with c the greatest aligned probability: 1 from
    the mean upwards. ``mean`` and ``variance`` are moving averages of the batches' mean and unbiased variance
    of c, which begin at 1/K and 1, and the present batch enters them first. `num_sigmas` divides the standard
    deviation: with 2, half of it is the width. Checked against microsoft/Semi-supervised-learning, with
    ``per_class`` off.

    Args:
        num_sigmas: above 0.
        decay: of both averages, in [0, 1).
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, num_sigmas: float, decay: float) -> None:
        super().__init__()
        check_positive(num_sigmas=num_sigmas)
        check_decay(decay=decay)
        self._num_sigmas, self._decay = num_sigmas, decay

    def prepare(self, spec: DataSpec, student: nn.Module) -> None:
        """See `Stateful.prepare`."""
        self.register_buffer("mean", torch.tensor(1 / spec.num_classes))
        self.register_buffer("variance", torch.ones(()))

    def forward(self, predictions: Predictions) -> Tensor:
        confidence = predictions.aligned.amax(dim=1)
        unbiased = len(confidence) > 1  # of one image, there is no unbiased variance
        move_average(self.mean, confidence.mean(), self._decay)
        move_average(self.variance, confidence.var(unbiased=unbiased), self._decay)
        below = (confidence - self.mean).clamp(max=0)
        return torch.exp(-(below**2) / (2 * self.variance / self._num_sigmas**2))
