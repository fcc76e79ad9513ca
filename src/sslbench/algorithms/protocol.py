"""What an algorithm is. Each is one final class in a file of its own, with one yaml beside the others.

Most have one network and train it from the first step to the last: they are an `Algorithm`. A method with
several stages, or with networks that work against each other, is a `Staged` one. `Examined` and `Pictured`
are what either may add.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from sslbench.core import (
    Batch,
    Examination,
    ModelFactory,
    Progress,
    Stage,
    StepOutput,
    TrainingImages,
    Views,
)


class Stepping(Protocol):
    """What the step loop asks of every method.

    It gets batches with the views that it declares and returns a loss; it never sees the configuration,
    the data layer, the optimizer or the loggers. All that must survive a restart lives in the modules it
    returns from `build`: a teacher is one of them, and running statistics are buffers.
    """

    def build(self, new_model: ModelFactory) -> dict[str, nn.Module]:
        """Make the modules, by name; called once a run, before they move to the training device."""

    def step(self, models: Mapping[str, nn.Module], batch: Batch, progress: Progress) -> StepOutput:
        """The loss of one batch. Must not wait for the device: no ``.item()``, no branch on a tensor."""

    def after_step(self, models: Mapping[str, nn.Module], progress: Progress) -> None:
        """Called after the optimizer's update, for teachers and running statistics."""


class Algorithm(Stepping, Protocol):
    """A semi-supervised method with one stage."""

    @property
    def views(self) -> Views:
        """The augmented views a batch must have."""

    @property
    def trained(self) -> tuple[str, ...]:
        """Names of the modules that the optimizer updates."""

    @property
    def predictors(self) -> tuple[str, ...]:
        """Names of the modules that are evaluated; validation of the first picks the checkpoint."""


@runtime_checkable
class Staged(Stepping, Protocol):
    """A method that says what is trained when, or that trains modules by losses of their own.

    Each stage has a fresh optimizer, and its schedule starts anew. The run's result is that of the last one.
    """

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages in their order."""

    def begin_stage(
        self, models: Mapping[str, nn.Module], stage: int, images: TrainingImages
    ) -> Tensor | None:
        """Called before each stage but the first; may wait for the device.

        Returns:
            The positions from which the stage draws its unlabelled images, or None for all of them.

        Raises:
            UserError: nothing is left to train on.
        """


@runtime_checkable
class Examined(Protocol):
    """A method with numbers of its own beside the accuracies of its predictors."""

    def examine(
        self, models: Mapping[str, nn.Module], stage: int, examination: Examination
    ) -> dict[str, float]:
        """Metrics at the end of `stage`, by name (``part/what`` or ``diagnostic/what``)."""


@runtime_checkable
class Pictured(Protocol):
    """A method with something to look at."""

    def pictures(self, models: Mapping[str, nn.Module]) -> dict[str, Tensor]:
        """Images by name, uint8 ``[H, W, C]`` of 1 or 3 channels; draws nothing from the random streams."""


AnyAlgorithm = Algorithm | Staged


def stages_of(algorithm: AnyAlgorithm) -> tuple[Stage, ...]:
    """The stages of any method; an `Algorithm` has one."""
    if isinstance(algorithm, Staged):
        return algorithm.stages
    return (Stage("train", algorithm.views, algorithm.trained, algorithm.predictors),)
