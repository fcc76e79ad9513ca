"""An average of the trained weights, by which any algorithm may be evaluated: the group ``average``.

It takes no part in training: the loop moves it after a step, beside the algorithm, which never sees it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, final

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sslbench.checks import check_counts, check_decay
from sslbench.core import Stage
from sslbench.data.batches import BatchSource
from sslbench.engine.evaluation import BATCH_SIZE
from sslbench.errors import UserError
from sslbench.models.ema import frozen_copy

#: The name under which the average is evaluated, beside the predictors of the algorithm.
WEIGHT_AVERAGE = "weight_average"


class AverageRule(Protocol):
    """Which weights of a stage are averaged, and how."""

    @property
    def batch_norm_images(self) -> int:
        """Images, at most, from which the average's batch-norm statistics are computed."""

    def share(self, step: int, total: int) -> float:
        """Of the weights after `step`, in the average after it: 0 leaves it as it is, 1 replaces it.

        `step` is from 1 to `total`, both counted within the stage.
        """


@final
@dataclass(frozen=True)
class MovingAverage:
    """``average = decay * average + (1 - decay) * weights`` after each step.

    Over the first steps it is a plain mean, as `sslbench.models.ema.warmed_up` has it.

    Raises:
        ValueError: an argument is out of range.
    """

    decay: float
    batch_norm_images: int

    def __post_init__(self) -> None:
        check_decay(decay=self.decay)
        check_counts(batch_norm_images=self.batch_norm_images)

    def share(self, step: int, total: int) -> float:
        """See `AverageRule`."""
        return max(1 - self.decay, 1 / step)


@final
@dataclass(frozen=True)
class RunningMean:
    """SWA (Izmailov et al. 2018, arXiv:1803.05407, algorithm 1) and fast-SWA (arXiv:1806.05594).

    ``average = average + (weights - average) / (n + 1)`` every `every` steps, from the share `start` of the
    stage on, where n counts the weights in the average. Until then it is the current weights. SWA takes
    weights once in each cycle of the learning rate, fast-SWA several times.

    Deviations: the learning rate is that of the group ``schedule``, where both papers have cyclic or constant
    ones; times are steps, where fast-SWA counts epochs; see `AveragedWeights` for batch norm.

    Args:
        start: share of the stage after which the first weights are taken, at least 0 and below 1.
        every: steps from then on between the weights that are averaged.
        batch_norm_images: see `AverageRule`.

    Raises:
        ValueError: an argument is out of range.
    """

    start: float
    every: int
    batch_norm_images: int

    def __post_init__(self) -> None:
        check_decay(start=self.start)
        check_counts(every=self.every, batch_norm_images=self.batch_norm_images)

    def share(self, step: int, total: int) -> float:
        """See `AverageRule`."""
        later = step - max(1, math.ceil(self.start * total))
        if later < 0:
            return 1.0
        return 0.0 if later % self.every else 1 / (later // self.every + 1)


def averaged_module(stage: Stage) -> str:
    """The trained module whose weights are averaged: the first predictor, or what that is an average of.

    Raises:
        UserError: it is not trained.
    """
    name = stage.predictors[0]
    while name in stage.averages:
        name = stage.averages[name].of
    if not any(name in names for names in stage.optimizers.values()):
        raise UserError(f"average needs a predictor that is trained, and '{name}' is not: set average=none")
    return name


@final
class AveragedWeights:
    """An average of a model's weights, ready to be evaluated.

    Only parameters are averaged. In an evaluation, buffers are those of the model at that step, but for the
    statistics of batch norm, which belong to other weights. They are computed anew (arXiv:1803.05407), in a
    pass over clean training images: at most ``rule.batch_norm_images`` of those that the stage draws its
    batches from, spread evenly over the training set. They are the means of the batches' means and of their
    unbiased variances, weighted by the sizes of the batches, which are at most `BATCH_SIZE`. The pass draws
    no random numbers: the images are always the same, and all layers but batch norm are in evaluation mode.

    Deviation: the papers' pass is over all training images, augmented.

    Attributes:
        module: the average, in evaluation mode.
    """

    def __init__(self, rule: AverageRule, model: nn.Module) -> None:
        self._rule, self._model = rule, model
        self.module = frozen_copy(model).eval()

    @torch.no_grad()
    def move(self, step: int, total: int) -> None:
        """Take in the model's weights after `step` of the stage's `total`, if the rule does."""
        if share := self._rule.share(step, total):
            ours: list[Tensor] = [*self.module.parameters()]
            torch._foreach_lerp_(ours, [*self._model.parameters()], share)

    @torch.no_grad()
    def prepare(self, batches: BatchSource, pause: Callable[[], object] = lambda: None) -> None:
        """Make the buffers fit the weights, for an evaluation; `pause` is called before each pass."""
        for mine, its in zip(self.module.buffers(), self._model.buffers(), strict=True):
            mine.copy_(its)
        layers = [m for m in self.module.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
        if not layers:
            return
        before = [layer.momentum for layer in layers]
        for layer in layers:
            layer.reset_running_stats()
            layer.train()
        seen = 0
        try:
            for index in spread(batches.positions, self._rule.batch_norm_images):
                pause()
                seen += len(index)
                for layer in layers:
                    layer.momentum = len(index) / seen
                self.module(batches.clean(index))
        finally:
            self.module.eval()
            for layer, momentum in zip(layers, before, strict=True):
                layer.momentum = momentum

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds of it."""
        return self.module.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken."""
        self.module.load_state_dict(state)


def spread(positions: Tensor, most: int) -> list[Tensor]:
    """At most `most` of `positions`, evenly spaced, in batches of nearly equal size.

    Each batch is spread over all of them in its turn: where the images are sorted by class, it still has all
    classes. Batch norm needs 2 images in each batch, so the images are 2 or more.
    """
    count = min(len(positions), max(most, 2))
    chosen = positions[torch.arange(count) * len(positions) // count]
    batches = math.ceil(count / BATCH_SIZE)
    return [chosen[first::batches] for first in range(batches)]
