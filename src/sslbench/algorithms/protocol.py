"""What an algorithm is. Each is one final class in a file of its own, with one yaml beside the others.

Most train the same modules from the first step to the last: they are an `Algorithm`. One with several stages
is `Staged`. `Averaging`, `Diagnosed` and `SampleImages` are what either may add.
"""

from collections.abc import Iterator, Mapping
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from sslbench.core import (
    Average,
    Batch,
    DiagnosticData,
    ModelFactory,
    Progress,
    Stage,
    StepOutput,
    TrainingImages,
    Views,
)


class Trainable(Protocol):
    """What the step loop asks of every algorithm.

    It gets batches with the views that it declares and returns losses; it never sees the configuration,
    the data layer, the optimizers or the loggers. All that must survive a restart lives in the modules that
    `build` returns: a teacher is one of them, and running statistics are buffers.
    """

    def build(self, new_model: ModelFactory) -> dict[str, nn.Module]:
        """Make the modules, by name; called once a run, before they move to the training device."""

    def step(
        self, models: Mapping[str, nn.Module], batch: Batch, progress: Progress
    ) -> StepOutput | Iterator[StepOutput]:
        """The losses of one batch. Must not wait for the device: no ``.item()``, no branch on a tensor.

        A step of one update returns its `StepOutput`. A step of several updates is a generator that yields
        one for each: the losses of an output are back-propagated and their optimizers stepped before the
        next output is asked for, so that the code after a ``yield`` sees the moved weights. A ``yield`` must
        not stand in a ``with`` block that changes torch's modes, such as ``torch.no_grad()``.
        """


class Algorithm(Trainable, Protocol):
    """An algorithm with one stage."""

    @property
    def views(self) -> Views:
        """The augmented views that a batch has."""

    @property
    def trained(self) -> tuple[str, ...] | Mapping[str, tuple[str, ...]]:
        """Names of the modules that the optimizer updates; with several optimizers, by each one's name."""

    @property
    def predictors(self) -> tuple[str, ...]:
        """Names of the modules that are evaluated; validation of the first selects the checkpoint."""


@runtime_checkable
class Staged(Trainable, Protocol):
    """An algorithm with several stages.

    Each stage has fresh optimizers, and its schedule starts anew. The run's result is that of the last one.
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
class Averaging(Protocol):
    """An algorithm with one stage that keeps averages of its models: teachers, or models to evaluate."""

    @property
    def averages(self) -> Mapping[str, Average]:
        """The modules that are averages of others, by name; moved after the last update of each step."""


@runtime_checkable
class Diagnosed(Protocol):
    """An algorithm with diagnostics: numbers of its own beside the accuracies of its predictors."""

    def diagnose(self, models: Mapping[str, nn.Module], stage: int, data: DiagnosticData) -> dict[str, float]:
        """Metrics at the end of `stage`, by name (``part/what`` or ``diagnostic/what``)."""


@runtime_checkable
class SampleImages(Protocol):
    """An algorithm that makes images for people to look at."""

    def sample_images(self, models: Mapping[str, nn.Module]) -> dict[str, Tensor]:
        """Images by name, uint8 ``[H, W, C]`` of 1 or 3 channels; draws nothing from the random streams."""


AnyAlgorithm = Algorithm | Staged


def stages_of(algorithm: AnyAlgorithm) -> tuple[Stage, ...]:
    """The stages of any algorithm; an `Algorithm` has one."""
    if isinstance(algorithm, Staged):
        return algorithm.stages
    averages = algorithm.averages if isinstance(algorithm, Averaging) else {}
    return (Stage(algorithm.views, algorithm.trained, algorithm.predictors, averages),)
