"""The types that the layers hand to each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor, nn

#: ``distance(logits [B, K], target [B, K]) -> [B]``: student logits against target probabilities.
Distance = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class DataSpec:
    """What a model must know of the data: it is read off the arrays, never written in a config.

    Attributes:
        channels: image channels, at least 1.
        height: pixels.
        width: pixels.
        num_classes: size of the label set, at least 2.
        num_train: images of the training set; `Batch.unlabelled_index` is below it.
        black: the model's input for pixels of value 0, one number for each channel.
        white: likewise for pixels of value 255. With whitening, inputs have no such bounds: both are empty.
    """

    channels: int
    height: int
    width: int
    num_classes: int
    num_train: int = 0
    black: tuple[float, ...] = ()
    white: tuple[float, ...] = ()


class ModelFactory(Protocol):
    """Makes fresh networks for the data at hand, initialised from the run's ``init`` random stream.

    Attributes:
        spec: of the data.
    """

    spec: DataSpec

    def __call__(self, num_outputs: int | None = None) -> nn.Module:
        """A network with `num_outputs` outputs; by default, one for each class."""


@dataclass(frozen=True)
class Views:
    """The augmented views of each image that an algorithm asks for, by strength.

    ``weak`` is the data set's random augmentation, drawn per sample and per view; ``clean`` is the image
    as evaluation sees it.
    """

    labelled: tuple[str, ...] = ("weak",)
    unlabelled: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stage:
    """A part of a run, with batches, optimizers and a schedule of its own.

    Attributes:
        name: for people.
        views: the augmented views a batch must have.
        trained: the modules that `StepOutput.loss` updates.
        predictors: the modules that are evaluated; validation of the first picks the stage's checkpoint.
        share: length in proportion to that of the other stages.
        rivals: modules that a loss of their own updates, each by an optimizer of its own.
    """

    name: str
    views: Views
    trained: tuple[str, ...]
    predictors: tuple[str, ...]
    share: float = 1.0
    rivals: tuple[str, ...] = ()


class TrainingImages(Protocol):
    """The training set between two stages. It does not tell the labels of unlabelled images.

    Attributes:
        labelled: positions of the labelled images, int64 ``[L]``, on the training device.
        unlabelled: positions of the unlabelled images, int64 ``[U]``, on the training device.
    """

    labelled: Tensor
    unlabelled: Tensor

    def predict(self, model: nn.Module, index: Tensor) -> Tensor:
        """Outputs of `model` in evaluation mode on the clean images at `index` ``[n]``: ``[n, K]``."""


class Examination(Protocol):
    """True labels of every part of the data, for numbers that are reported and never trained or chosen on.

    Attributes:
        targets: class indices of the whole training set, int64 ``[N]``, on the training device.
    """

    targets: Tensor

    def mean(self, part: str, model: nn.Module, score: Callable[[Tensor, Tensor], Tensor]) -> float:
        """Mean of ``score(outputs [B, ...], true classes [B]) -> [B]`` over a part of the data.

        Args:
            part: ``labelled``, ``unlabelled``, ``val`` or ``test``.
            model: gives the outputs, in evaluation mode, on the clean images.
            score: of each image.
        """


@dataclass(frozen=True)
class Batch:
    """One step's images, on the training device, normalised.

    Attributes:
        labelled: one float tensor ``[B, C, H, W]`` for each declared labelled view.
        targets: class indices of the labelled images, int64 ``[B]``.
        unlabelled: one float tensor ``[U, C, H, W]`` for each declared unlabelled view.
        unlabelled_index: positions of the unlabelled images in the training set, int64 ``[U]``.
    """

    labelled: tuple[Tensor, ...]
    targets: Tensor
    unlabelled: tuple[Tensor, ...]
    unlabelled_index: Tensor


@dataclass(frozen=True)
class Progress:
    """Where a run stands, as device scalars, so that a step that reads it never waits for the device.

    Where an algorithm trains in stages, its steps are counted anew in each.

    Attributes:
        step: steps finished so far (0 in the first step), float32 ``[]``; exact up to 2**24 steps.
        total: steps of the whole stage; for most algorithms that is the run.
        stage: position of the stage, from 0.
    """

    step: Tensor
    total: int
    stage: int = 0

    @property
    def fraction(self) -> Tensor:
        """Share of the stage that is done, in [0, 1), float32 ``[]``."""
        return self.step / self.total


@dataclass(frozen=True)
class StepOutput:
    """What an algorithm returns for one batch.

    Attributes:
        loss: the scalar that is minimised.
        terms: the parts of the loss before weighting, by name; logged, and named when one is not finite.
        monitors: other scalars worth a curve (weights, mask rates); detached.
        rivals: the losses of the stage's rivals, by the name of the module; each updates that module alone.
    """

    loss: Tensor
    terms: Mapping[str, Tensor]
    monitors: Mapping[str, Tensor] = field(default_factory=dict)
    rivals: Mapping[str, Tensor] = field(default_factory=dict)
