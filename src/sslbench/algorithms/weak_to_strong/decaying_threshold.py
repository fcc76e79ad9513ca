"""A threshold of the loss that falls during training: only images with a small loss count.

Dash (Xu et al. 2021, arXiv:2109.00650). The weights and the targets both read the threshold, and each has one
of its own: given the same arguments, the two are equal. Checked against two codes, the authors'
(idstcv/Dash) and microsoft/Semi-supervised-learning; what the paper itself has is unverified.
"""

from typing import final

import torch
from torch import Tensor, nn

from sslbench.algorithms.weak_to_strong.protocol import Predictions
from sslbench.checks import check_not_negative, check_positive, check_probability
from sslbench.losses import ce, cross_entropy, one_hot
from sslbench.losses.mixup import sharpen
from sslbench.models.ema import warmed_up

#: Of the average of the labelled loss: it covers about the last ten batches of the warm-up.
DECAY = 0.9


@final
class DecayingThreshold(nn.Module):
    """``rho = max(scale * divisor^-j * start, minimum)`` (arXiv:2109.00650, algorithm 1).

    ``start`` is the labelled loss when the supervised warm-up ends, as a moving average over its last batches
    and the first one after it; j grows by 1 after each `interval`.

    Deviations: warm-up and interval are shares of the run, so that runs of any length pass through the same
    thresholds; microsoft's code counts steps, 2,048 before and 10,240 in the interval, of 2**20. The labelled
    loss is that of training batches at weak views. The authors' code starts from the mean loss of unlabelled
    images, after a warm-up that uses them all; microsoft's from the loss of its evaluation set.

    Args:
        warm_up: share of the run, in [0, 1].
        interval: share of the run, above 0; one step at least.
        divisor: gamma in the paper, above 0.
        scale: C in the paper, above 0.
        minimum: in nats, not negative.
    """

    start: Tensor

    def __init__(self, warm_up: float, interval: float, divisor: float, scale: float, minimum: float) -> None:
        super().__init__()
        check_probability(warm_up=warm_up)
        check_positive(interval=interval, divisor=divisor, scale=scale)
        check_not_negative(minimum=minimum)
        self._warm_up, self._interval, self._divisor = warm_up, interval, divisor
        self._scale, self.minimum = scale, minimum
        self.register_buffer("start", torch.zeros(()))

    def steps_since_warm_up(self, predictions: Predictions) -> Tensor:
        """Steps since the end of the warm-up, ``[]``; negative before it."""
        progress = predictions.progress
        return progress.step - round(self._warm_up * progress.total)

    def forward(self, predictions: Predictions) -> Tensor:
        """The threshold of the step, in nats, ``[]``; called once a step."""
        progress, since = predictions.progress, self.steps_since_warm_up(predictions)
        loss = cross_entropy(predictions.labelled.detach(), predictions.targets)
        decay = warmed_up(DECAY, progress.step)
        average = decay * self.start + (1 - decay) * loss
        self.start.copy_(torch.where(since <= 0, average, self.start))
        length = max(1, round(self._interval * progress.total))
        times = torch.div(since, length, rounding_mode="floor").clamp(min=0)
        return (self._scale * self._divisor**-times * self.start).clamp(min=self.minimum)


@final
class SmallLoss(nn.Module):
    """1 where the cross-entropy of the weak view with its own most probable class is at most the threshold.

    During the warm-up all are 0. As this loss is ``-log c``, the least threshold of 0.05 asks for a
    confidence c of 0.951. It is the loss of the authors' code, with equality; microsoft's takes the sharpened
    target while targets are soft.

    Deviation: the mean of FixMatch is over all unlabelled images; the authors' code takes 0.9 times the mean
    over those that count.

    Args:
        threshold: of the loss.
    """

    def __init__(self, threshold: DecayingThreshold) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, predictions: Predictions) -> Tensor:
        threshold = self.threshold(predictions)
        weak = predictions.weak
        loss = ce(weak, one_hot(weak.argmax(dim=1), weak.shape[1], weak.dtype))
        counts: Tensor = (loss <= threshold) & (self.threshold.steps_since_warm_up(predictions) >= 0)
        return counts.to(loss.dtype)


@final
class SoftThenHardTargets(nn.Module):
    """The sharpened prediction; the most probable class once the threshold is at its minimum.

    Args:
        threshold: with the arguments of the weights' one.
        temperature: of the sharpening, above 0.
    """

    def __init__(self, threshold: DecayingThreshold, temperature: float) -> None:
        super().__init__()
        check_positive(temperature=temperature)
        self.threshold, self._temperature = threshold, temperature

    def forward(self, predictions: Predictions) -> Tensor:
        probabilities = predictions.probabilities
        hard = one_hot(probabilities.argmax(dim=1), probabilities.shape[1], probabilities.dtype)
        is_soft = self.threshold(predictions) > self.threshold.minimum
        return torch.where(is_soft, sharpen(probabilities, self._temperature), hard)
