"""The types that the layers hand to each other."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

#: ``distance(logits [B, K], target [B, K]) -> [B]``: student logits against target probabilities.
Distance = Callable[[Tensor, Tensor], Tensor]

#: The name of a stage's optimizer where it has only one; its loss is logged as ``train/loss``.
MAIN = "main"


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
        num_unlabelled: images that are drawn as unlabelled ones; 0 where nothing is trained.
    """

    channels: int
    height: int
    width: int
    num_classes: int
    num_train: int = 0
    black: tuple[float, ...] = ()
    white: tuple[float, ...] = ()
    num_unlabelled: int = 0


class ModelFactory(Protocol):
    """Makes fresh models for the data at hand, initialised from the run's ``init`` random stream.

    Attributes:
        spec: of the data.
    """

    spec: DataSpec

    def __call__(self, num_outputs: int | None = None) -> nn.Module:
        """A model with `num_outputs` outputs; by default, one for each class."""


@runtime_checkable
class FeatureModel(Protocol):
    """A model whose logits are ``classifier(features(x))``, as those of `sslbench.models` are.

    Attributes:
        classifier: features ``[B, D]`` to logits ``[B, K]``; in most models a linear layer.
    """

    classifier: nn.Module

    def features(self, x: Tensor) -> Tensor:
        """Images, float ``[B, C, H, W]``, to what the classifier reads, float ``[B, D]``."""


class StrongView(Protocol):
    """Random operations on pixels, beyond the weak view: what ``strong: ${strong}`` in a yaml stands for."""

    def within(self, limits: Mapping[str, Sequence[float] | None]) -> Callable[..., Tensor]:
        """What augments the images of a data set, of which `limits` are ``dataset.images.operations``.

        It is called with images, uint8 ``[B, H, W, C]``, the pixel that stands for nothing ``[C]``, and the
        random generator, and returns images.

        Raises:
            ValueError: it needs an operation that the data set does not list.
        """


#: ``weak``, ``clean``, or a strong view.
View = str | StrongView


@dataclass(frozen=True)
class Views:
    """The augmented views of each image that an algorithm asks for, by strength.

    ``weak`` is the data set's random augmentation, drawn for each image and each view; ``clean`` is the
    image as evaluation sees it. A `StrongView` in their place is a weak view to which it adds. Each position
    has a random stream of its own, so that the first view of an image does not depend on the views after it.
    """

    labelled: tuple[View, ...] = ("weak",)
    unlabelled: tuple[View, ...] = ()


@dataclass(frozen=True)
class Average:
    """A moving average of a model's weights, which the loop moves at the end of each step.

    Attributes:
        of: name of the averaged module.
        decay: from 0 to below 1, reached after a warm-up (`sslbench.models.ema.warmed_up`).
    """

    of: str
    decay: float


@dataclass(frozen=True)
class Stage:
    """A part of a run, with batches, optimizers and a schedule of its own. All stages are equally long.

    Attributes:
        views: the augmented views that a batch has.
        trained: the names of the modules that the stage's one optimizer updates; or, for several
            optimizers, those of each by the optimizer's name.
        predictors: the modules that are evaluated; validation of the first selects the checkpoint.
        averages: the modules that are averages of others, by name.
        optimizers: `trained` by the optimizer's name; a single one is called `MAIN`.
    """

    views: Views
    trained: InitVar[tuple[str, ...] | Mapping[str, tuple[str, ...]]]
    predictors: tuple[str, ...]
    averages: Mapping[str, Average] = field(default_factory=dict)
    optimizers: Mapping[str, tuple[str, ...]] = field(init=False)

    def __post_init__(self, trained: tuple[str, ...] | Mapping[str, tuple[str, ...]]) -> None:
        by_name = trained if isinstance(trained, Mapping) else {MAIN: trained}
        object.__setattr__(self, "optimizers", by_name)


class TrainingImages(Protocol):
    """The training images between two stages, without their labels.

    Attributes:
        unlabelled: positions of the unlabelled images, int64 ``[U]``, on the training device.
    """

    unlabelled: Tensor

    def predict(self, model: nn.Module, index: Tensor) -> Tensor:
        """Outputs of `model` in evaluation mode on the clean images at `index` ``[n]``: ``[n, K]``."""


class DiagnosticData(Protocol):
    """True labels of every part of the data, for numbers on which nothing is trained or selected.

    Attributes:
        targets: class indices of the whole training set, int64 ``[N]``, on the training device.
    """

    targets: Tensor

    def mean(self, part: str, model: nn.Module, score: Callable[[Tensor, Tensor], Tensor]) -> float:
        """Mean of ``score(outputs [B, ...], true classes [B]) -> [B]`` over a part of the data.

        The part is ``labelled``, ``unlabelled``, ``val`` or ``test``; `model` gives the outputs for its clean
        images, in evaluation mode.
        """


@dataclass(frozen=True)
class Batch:
    """One step's images, on the training device, normalised.

    Attributes:
        labelled: one float tensor ``[B, C, H, W]`` for each declared labelled view.
        targets: class indices of the labelled images, int64 ``[B]``.
        unlabelled: one float tensor ``[U, C, H, W]`` for each declared unlabelled view.
        labelled_index: positions of the labelled images in the training set, int64 ``[B]``.
        unlabelled_index: positions of the unlabelled images in the training set, int64 ``[U]``.
    """

    labelled: tuple[Tensor, ...]
    targets: Tensor
    unlabelled: tuple[Tensor, ...]
    labelled_index: Tensor
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
        """Fraction of the stage that is done, in [0, 1), float32 ``[]``."""
        return self.step / self.total


@dataclass(frozen=True)
class PseudoLabelled:
    """The pseudo-labels of a step's unlabelled images, handed over to be compared with the true labels.

    The comparison is logged, and nothing is trained on it.

    Attributes:
        probabilities: the targets, detached, ``[U, K]``.
        weights: how much each counts, detached, ``[U]``; above 0 is accepted.
    """

    probabilities: Tensor
    weights: Tensor


@dataclass(frozen=True)
class StepOutput:
    """What an algorithm returns for one update.

    ``StepOutput(loss, terms)`` is for a stage with one optimizer. With several, the first argument maps the
    names of those that move in this update to their losses; each loss moves the modules of its own optimizer
    and no others.

    Attributes:
        losses: the scalars that are minimised, ``[]``, by the optimizer's name.
        terms: the parts of the losses before weighting, by name; logged, and named when one is not finite.
        monitors: other scalars worth a curve (weights, rates); detached.
        pseudo_labels: those of the unlabelled images of the batch, in its order; None where there are none.
    """

    loss: InitVar[Tensor | Mapping[str, Tensor]]
    terms: Mapping[str, Tensor] = field(default_factory=dict)
    monitors: Mapping[str, Tensor] = field(default_factory=dict)
    pseudo_labels: PseudoLabelled | None = None
    losses: Mapping[str, Tensor] = field(init=False)

    def __post_init__(self, loss: Tensor | Mapping[str, Tensor]) -> None:
        object.__setattr__(self, "losses", loss if isinstance(loss, Mapping) else {MAIN: loss})
