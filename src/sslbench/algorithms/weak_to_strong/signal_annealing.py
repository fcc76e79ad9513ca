"""The loss on labelled images, without those that the model has learnt too early."""

from collections.abc import Callable
from typing import final

import torch
from torch import Tensor, nn

from sslbench.algorithms.weak_to_strong.protocol import Predictions
from sslbench.checks import check_choice
from sslbench.losses import ce, one_hot

#: How far the threshold has risen, from about 0 to about 1, by the fraction of the run that is done.
SCHEDULES: dict[str, Callable[[Tensor], Tensor]] = {
    "none": torch.ones_like,
    "linear": lambda fraction: fraction,
    "exp": lambda fraction: torch.exp(5 * (fraction - 1)),
    "log": lambda fraction: -torch.expm1(-5 * fraction),
}


@final
class SignalAnnealing(nn.Module):
    """Training signal annealing (UDA, arXiv:1904.12848).

    An image counts as long as the probability of its true class is at most ``a(t) (1 - 1/K) + 1/K``, and the
    loss is the mean cross-entropy of those that count; it is 0 where none does. With ``a`` as `schedule`:
    ``t``, ``exp(5 (t - 1))`` or ``1 - exp(-5 t)``, t being the share of the run that is done. It looks at the
    weak views only. All is as in the authors' code (github.com/google-research/uda, image/main.py).

    Args:
        schedule: a key of `SCHEDULES`; ``none`` keeps all images.
    """

    def __init__(self, schedule: str) -> None:
        super().__init__()
        check_choice(SCHEDULES, schedule=schedule)
        self._schedule = schedule

    def forward(self, predictions: Predictions) -> Tensor:
        logits = predictions.labelled
        num_classes = logits.shape[1]
        labels = one_hot(predictions.targets, num_classes, logits.dtype)
        losses = ce(logits, labels)
        if self._schedule == "none":
            return losses.mean()
        risen = SCHEDULES[self._schedule](predictions.progress.fraction)
        log_threshold = (risen * (1 - 1 / num_classes) + 1 / num_classes).log()
        counts = (-losses.detach() <= log_threshold).to(losses.dtype)
        return (losses * counts).sum() / counts.sum().clamp(min=1)
