"""Pseudo-labels count only where the model has been of the same opinion for long."""

from typing import cast, final

import torch
from torch import Tensor, nn

from sslbench.algorithms.weak_to_strong.protocol import Predictions, Stateful, Weighting
from sslbench.checks import check_probability
from sslbench.core import DataSpec


@final
class AveragePseudoMargin(nn.Module):
    """Another weighting, but 0 where the pseudo-label's average margin is low: MarginMatch, arXiv:2308.09037.

    The margin of class k is its weak logit minus the greatest of the others. The average margin of an image
    and class moves at each visit of the image, by ``s / (1 + n)`` towards the present margin, with n the
    visits before; with s near 1, this is almost a plain mean. It is 0 before the first visit. An image that a
    batch has twice is visited once, by the last of its places. The average is moved before it is compared,
    and from the first step; it is compared after the warm-up.

    Deviation: the authors take `least` from a virtual class. They give the network one more output, train 1 %
    of the unlabelled images to it, and take a high percentile of the average margins that these images reach
    for it. Here `least` is a number; 0, the authors' value until they have such margins, demands that the
    class has led on average. It needs no other network, and no image is trained to a wrong class. Checked
    against the authors' code (github.com/tsosea2/MarginMatch), of which two things are not taken over: it
    takes the second greatest logit for 0 where it is negative, and its index for the 95th percentile is off,
    so that about the 99th is used.

    The state takes ``4 N K`` bytes for N training images.

    Args:
        inner: the weighting to which this one adds.
        smoothing: s, in [0, 1]; 0.997 in the paper.
        least: average margin from which a pseudo-label counts, in logits.
        warm_up: share of the run in which every average margin will do, in [0, 1].
    """

    margins: Tensor
    visits: Tensor

    def __init__(self, inner: Weighting, smoothing: float, least: float, warm_up: float) -> None:
        super().__init__()
        check_probability(smoothing=smoothing, warm_up=warm_up)
        self._inner = cast("nn.Module", inner)
        self._smoothing, self._least, self._warm_up = smoothing, least, warm_up

    def prepare(self, spec: DataSpec, student: nn.Module) -> None:
        """See `Stateful.prepare`."""
        self.register_buffer("margins", torch.zeros(spec.num_train, spec.num_classes))
        self.register_buffer("visits", torch.zeros(spec.num_train, dtype=torch.int64))
        if isinstance(self._inner, Stateful):
            self._inner.prepare(spec, student)

    def forward(self, predictions: Predictions) -> Tensor:
        weights: Tensor = self._inner(predictions)
        average = self._visit(predictions.index, margins_of(predictions.weak))
        label = predictions.weak.argmax(dim=1, keepdim=True)
        is_high = average.gather(1, label).squeeze(1) >= self._least
        return weights * (is_high | (predictions.progress.fraction < self._warm_up))

    def _visit(self, index: Tensor, margins: Tensor) -> Tensor:
        """Move the averages at `index` ``[U]`` towards `margins` ``[U, K]``; returns the new ones."""
        # An image that occurs twice writes the same values twice: the order of the writes is of no matter.
        places = torch.arange(len(index), device=index.device)
        last = torch.where(index[:, None] == index, places, 0).amax(dim=1)
        present = margins.index_select(0, last).to(self.margins.dtype)
        visits = self.visits.index_select(0, index)
        before = self.margins.index_select(0, index)
        average = torch.lerp(before, present, (self._smoothing / (1 + visits)).to(before.dtype)[:, None])
        self.margins.index_copy_(0, index, average)
        self.visits.index_copy_(0, index, visits + 1)
        return average


def margins_of(logits: Tensor) -> Tensor:
    """Each logit minus the greatest of the others, ``[U, K]`` to ``[U, K]``."""
    greatest, order = logits.topk(2, dim=1)
    classes = torch.arange(logits.shape[1], device=logits.device)
    return logits - torch.where(classes == order[:, :1], greatest[:, 1:], greatest[:, :1])
