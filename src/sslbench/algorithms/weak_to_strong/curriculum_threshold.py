"""Thresholds that are lower for classes in which few images are confident (curriculum pseudo-labels)."""

from typing import final

import torch
from torch import Tensor, nn

from sslbench.algorithms.weak_to_strong.protocol import Predictions
from sslbench.checks import check_probability
from sslbench.core import DataSpec


@final
class CurriculumThreshold(nn.Module):
    """FlexMatch (Zhang et al. 2021, arXiv:2110.08263), section 3, with its convex mapping.

    Each unlabelled image keeps the class that was last predicted with a confidence of at least `threshold`.
    Of ``sigma(k)`` images that keep class k, ``beta(k) = sigma(k) / max(max sigma, unused)``, where unused
    images keep none, and the threshold of class k is ``threshold * beta / (2 - beta)``. It is read before the
    step's own predictions are noted, so that at the start, all images count.

    Which images are noted is decided by the fixed threshold, never by the lowered one.

    Checked against microsoft/Semi-supervised-learning. As there, a threshold is reached by equality; that the
    paper has strict inequalities is unverified.

    Deviation: if an image occurs twice in a batch, confident both times, the greater class index is kept,
    whatever their order.

    Args:
        threshold: of the best class, in [0, 1].
        warm_up: whether unused images hold the thresholds down; without, the best class has the full
            threshold as soon as it has an image.
    """

    selected: Tensor

    def __init__(self, threshold: float, warm_up: bool) -> None:
        super().__init__()
        check_probability(threshold=threshold)
        self._threshold, self._warm_up = threshold, warm_up

    def prepare(self, spec: DataSpec, student: nn.Module) -> None:
        """See `Stateful.prepare`."""
        self._num_classes, self._num_unlabelled = spec.num_classes, spec.num_unlabelled
        self.register_buffer("selected", torch.full((spec.num_train,), -1))

    def forward(self, predictions: Predictions) -> Tensor:
        confidence, label = predictions.aligned.max(dim=1)
        accepted = confidence >= self._threshold * self._relative()[label]
        self._note(predictions.index, torch.where(confidence >= self._threshold, label, -1))
        return accepted.to(confidence.dtype)

    def _relative(self) -> Tensor:
        """``beta / (2 - beta)`` of each class, ``[K]``."""
        classes = torch.arange(self._num_classes, device=self.selected.device)
        count = (self.selected[:, None] == classes).sum(dim=0)
        most = count.max()
        if self._warm_up:
            most = torch.maximum(most, self._num_unlabelled - count.sum())
        beta = count / most.clamp(min=1)
        return beta / (2 - beta)

    def _note(self, index: Tensor, label: Tensor) -> None:
        """Keep the labels ``[U]`` of the images at `index`; -1 leaves an image as it is."""
        found = torch.full_like(self.selected, -1).scatter_reduce(0, index, label, "amax")
        self.selected.copy_(torch.where(found >= 0, found, self.selected))
