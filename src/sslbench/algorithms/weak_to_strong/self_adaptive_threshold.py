"""A threshold that follows the confidence of the predictions, for each class."""

from typing import final

import torch
from torch import Tensor, nn

from sslbench.algorithms.weak_to_strong.averages import move_average
from sslbench.algorithms.weak_to_strong.protocol import Predictions
from sslbench.checks import check_decay
from sslbench.core import DataSpec


@final
class SelfAdaptiveThreshold(nn.Module):
    """FreeMatch (Wang et al. 2023, arXiv:2205.07246), section 4.1.

    The threshold of class k is ``confidence * predicted(k) / max predicted``: ``confidence`` is a moving
    average of the batches' mean greatest probability, ``predicted`` one of their mean prediction. Both begin
    at 1/K, and the present batch enters them before it is compared. Checked against
    microsoft/Semi-supervised-learning, with ``use_quantile`` and ``clip_thresh`` off.

    Deviation: the thresholds have no bounds. For SVHN, the authors keep them from 0.9 to 0.95 (unverified).

    Args:
        decay: of both averages, in [0, 1).
    """

    confidence: Tensor
    predicted: Tensor

    def __init__(self, decay: float) -> None:
        super().__init__()
        check_decay(decay=decay)
        self._decay = decay

    def prepare(self, spec: DataSpec, student: nn.Module) -> None:
        """See `Stateful.prepare`."""
        self.register_buffer("confidence", torch.tensor(1 / spec.num_classes))
        self.register_buffer("predicted", torch.full((spec.num_classes,), 1 / spec.num_classes))

    def forward(self, predictions: Predictions) -> Tensor:
        greatest, label = predictions.aligned.max(dim=1)
        move_average(self.confidence, greatest.mean(), self._decay)
        move_average(self.predicted, predictions.aligned.mean(dim=0), self._decay)
        thresholds = self.confidence * self.predicted / self.predicted.max()
        return (greatest >= thresholds[label]).to(greatest.dtype)
