"""What the parts of `sslbench.algorithms.fixmatch.FixMatch` are given, and what they give.

A part is an ``nn.Module`` whose constructor takes the numbers of its yaml. What it remembers from step to
step lies in buffers, which `Stateful.prepare` registers once the data are known. Parts are called in training
mode, once a step, in the order alignment, weighting, targets, extra term.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from sslbench.core import DataSpec, Progress


@dataclass(frozen=True, eq=False)
class Predictions:
    """The student's predictions in a step; B labelled and U unlabelled images, K classes.

    Attributes:
        weak: logits at the weak views, detached, ``[U, K]``.
        strong: logits at the strong views, with gradient, ``[U, K]``.
        probabilities: softmax of `weak`, ``[U, K]``.
        aligned: the same after the alignment; without one, `probabilities`.
        index: positions of the unlabelled images in the training set, int64 ``[U]``.
        labelled: logits at the weak views of the labelled images, with gradient, ``[B, K]``.
        labelled_strong: logits at their strong views, with gradient, ``[B, K]``; None without such views.
        targets: classes of the labelled images, int64 ``[B]``.
        progress: of the run.
        features: what the classifier reads at the strong views, with gradient, ``[U, D]``; None unless the
            extra term needs them.
    """

    weak: Tensor
    strong: Tensor
    probabilities: Tensor
    aligned: Tensor
    index: Tensor
    labelled: Tensor
    labelled_strong: Tensor | None
    targets: Tensor
    progress: Progress
    features: Tensor | None


class Alignment(Protocol):
    """Corrects the predictions for a class distribution that they should have."""

    def __call__(self, probabilities: Tensor, labelled: Tensor) -> Tensor:
        """From ``[U, K]`` to ``[U, K]``; `labelled` are the probabilities of the labelled images ``[B, K]``.

        Both are detached.
        """

    def adjust(self, logits: Tensor) -> Tensor:
        """The logits at the strong views as the loss takes them, ``[U, K]``; mostly as they are."""


class Weighting(Protocol):
    """How much the pseudo-label of each image counts."""

    def __call__(self, predictions: Predictions) -> Tensor:
        """Weights, detached, not negative, float ``[U]``; of a threshold, 0 and 1."""


class Targets(Protocol):
    """What the prediction at the strong view should be."""

    def __call__(self, predictions: Predictions) -> Tensor:
        """Probabilities, detached, ``[U, K]``."""


class LabelledLoss(Protocol):
    """The loss on the labelled images."""

    def __call__(self, predictions: Predictions) -> Tensor:
        """A scalar, ``[]``."""


class ExtraTerm(Protocol):
    """A term of its own beside the two of FixMatch.

    Attributes:
        name: under which it is logged, before weighting.
        weight: its factor in the loss, beside that of the unlabelled images; below 0 where it is subtracted.
        needs_features: whether it reads `Predictions.features`, with a head of its own, which is trained with
            the student.
    """

    name: str
    weight: float
    needs_features: bool

    def __call__(self, predictions: Predictions, targets: Tensor, weights: Tensor) -> Tensor:
        """A scalar, ``[]``, from the targets ``[U, K]`` and weights ``[U]`` of the unlabelled images."""


@runtime_checkable
class Stateful(Protocol):
    """A part with buffers or parameters that depend on the data or the model."""

    def prepare(self, spec: DataSpec, student: nn.Module) -> None:
        """Register them; called once, before the modules move to the training device."""
