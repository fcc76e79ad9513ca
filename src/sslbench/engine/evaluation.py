"""Accuracy and calibration of a model on a fixed set of images."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from sslbench.data.views import DeviceImages
from sslbench.rundir.records import Calibration, balanced_accuracy, class_accuracies

CALIBRATION_BINS = 15  # Guo et al. 2017, arXiv:1706.04599
#: Fixed, so that a saved model evaluated again gives the same numbers.
BATCH_SIZE = 500


@dataclass(frozen=True)
class Evaluation:
    """A model's results on a set.

    Attributes:
        acc: share of images classified correctly, in [0, 1].
        loss: mean cross-entropy, in nats.
        calibration: how far its probabilities can be trusted.
        confusion: counts ``[K][K]`` of images, by their true class and then by the predicted one.
    """

    acc: float
    loss: float
    calibration: Calibration
    confusion: list[list[int]]

    @property
    def ece(self) -> float:
        """Expected calibration error, in [0, 1], of the bins in `calibration`."""
        return self.calibration.error

    @property
    def metrics(self) -> dict[str, float]:
        """The single numbers by name, for the curves."""
        balanced = balanced_accuracy(class_accuracies(self.confusion))
        return {"acc": self.acc, "balanced_acc": balanced, "ece": self.ece, "loss": self.loss}


@dataclass(frozen=True)
class EvaluationSet:
    """Images to evaluate on.

    Attributes:
        images: on the device.
        index: the positions that belong to the set, int64 ``[n]``, on the device.
        targets: class indices of those positions, int64 ``[n]``, on the device.
        num_classes: size of the label set.
    """

    images: DeviceImages
    index: Tensor
    targets: Tensor
    num_classes: int


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards the model is in the mode in which it was."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


def _calibration(probabilities: Tensor, targets: Tensor) -> Calibration:
    """The bins of `probabilities` ``[n, K]``; one on an edge belongs to the bin above, 1 to the last.

    Means are of sums in float64: a fixed number whatever the order of the images' batches.
    """
    confidence, predicted = probabilities.max(dim=1)
    edges = torch.linspace(0, 1, CALIBRATION_BINS + 1)
    # NaN, from weights that diverged, would lie beyond the last bin; the caller sees it in the loss.
    bins = (torch.bucketize(confidence, edges, right=True) - 1).clamp(max=CALIBRATION_BINS - 1)

    def means(values: Tensor) -> tuple[float | None, ...]:
        sums = torch.bincount(bins, weights=values.double(), minlength=CALIBRATION_BINS)
        return tuple(
            total / count if count else None for total, count in zip(sums.tolist(), counts, strict=True)
        )

    counts = tuple(torch.bincount(bins, minlength=CALIBRATION_BINS).tolist())
    return Calibration(counts, means(confidence), means(predicted == targets))


def _confusion(predicted: Tensor, targets: Tensor, num_classes: int) -> list[list[int]]:
    pairs = torch.bincount(targets * num_classes + predicted, minlength=num_classes**2)
    counts: list[list[int]] = pairs.view(num_classes, num_classes).tolist()
    return counts


def evaluate(
    model: nn.Module,
    data: EvaluationSet,
    batch_size: int = BATCH_SIZE,
    pause: Callable[[], object] = lambda: None,
) -> Evaluation:
    """Evaluate the logits of `model` in evaluation mode and float32, and leave it in the mode it was in.

    `pause` is called before each pass of `batch_size` images; what it raises ends the evaluation.
    """
    with evaluating(model):
        outputs = []
        for part in torch.split(data.index, batch_size):
            pause()
            outputs.append(model(data.images.clean(part)).float())
        # Scored on the CPU: sums over bins on CUDA depend on the order in which threads add.
        logits = torch.cat(outputs).cpu()
    targets = data.targets.cpu()
    predicted = logits.argmax(dim=1)
    right = predicted == targets
    return Evaluation(
        acc=int(right.sum()) / len(right),  # an exact fraction
        loss=float(cross_entropy(logits, targets)),
        calibration=_calibration(logits.softmax(dim=1), targets),
        confusion=_confusion(predicted, targets, data.num_classes),
    )
