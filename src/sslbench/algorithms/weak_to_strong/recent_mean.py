"""Alignment with equally frequent classes, by the last few batches."""

from typing import final

import torch
from torch import Tensor, nn

from sslbench.checks import check_counts
from sslbench.core import DataSpec


@final
class RecentMean(nn.Module):
    """``normalise(q / mean q)``, where the mean is over the last batches, this one too.

    As in the code of ShrinkMatch (github.com/LiheYoung/ShrinkMatch, CIFAR) and, with a target distribution
    that is uniform, the distribution alignment of ReMixMatch (arXiv:1911.09785, section 3.1).

    Args:
        batches: how many, at least 1.
    """

    means: Tensor
    next_place: Tensor

    def __init__(self, batches: int) -> None:
        super().__init__()
        check_counts(batches=batches)
        self._batches = batches

    def prepare(self, spec: DataSpec, student: nn.Module) -> None:
        """See `Stateful.prepare`."""
        self.register_buffer("means", torch.zeros(self._batches, spec.num_classes))
        self.register_buffer("next_place", torch.zeros(1, dtype=torch.int64))

    def forward(self, probabilities: Tensor, labelled: Tensor) -> Tensor:
        mean = probabilities.mean(dim=0, keepdim=True)
        self.means.index_copy_(0, self.next_place, mean.to(self.means.dtype))
        self.next_place.copy_((self.next_place + 1) % self._batches)
        # Places that are not filled yet hold zeros; the factor that they make is lost in the normalisation.
        ratio = probabilities / self.means.mean(dim=0).to(probabilities.dtype).clamp(min=1e-12)
        return ratio / ratio.sum(dim=1, keepdim=True)

    def adjust(self, logits: Tensor) -> Tensor:
        """The logits as they are."""
        return logits
