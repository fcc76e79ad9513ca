"""The types that the layers hand to each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

#: ``distance(logits [B, K], target [B, K]) -> [B]``: student logits against target probabilities.
Distance = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class ImageSpec:
    """What a model must know of the data: it is read off the arrays, never written in a config.

    Attributes:
        channels: image channels, at least 1.
        height: pixels.
        width: pixels.
        num_classes: size of the label set, at least 2.
    """

    channels: int
    height: int
    width: int
    num_classes: int


#: Makes a fresh network for the data at hand, initialised from the run's ``init`` random stream.
ModelFactory = Callable[[], nn.Module]


@dataclass(frozen=True)
class Views:
    """The augmented views of each image that an algorithm asks for, by strength.

    ``weak`` is the data set's random augmentation, drawn per sample and per view; ``clean`` is the image
    as evaluation sees it.
    """

    labelled: tuple[str, ...] = ("weak",)
    unlabelled: tuple[str, ...] = ()


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

    Attributes:
        step: steps finished so far (0 in the first step), float32 ``[]``; exact up to 2**24 steps.
        total: steps of the whole run.
    """

    step: Tensor
    total: int

    @property
    def fraction(self) -> Tensor:
        """Share of the run that is done, in [0, 1), float32 ``[]``."""
        return self.step / self.total


@dataclass(frozen=True)
class StepOutput:
    """What an algorithm returns for one batch.

    Attributes:
        loss: the scalar that is minimised.
        terms: the parts of the loss before weighting, by name; logged, and named when one is not finite.
        monitors: other scalars worth a curve (weights, mask rates); detached.
    """

    loss: Tensor
    terms: Mapping[str, Tensor]
    monitors: Mapping[str, Tensor] = field(default_factory=dict)
