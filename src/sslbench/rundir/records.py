"""The schema of a run: its files, their names, and the fields in them, for all that writes or reads them.

The records are plain dataclasses; `sslbench.rundir.parsing` lets pydantic check files by their annotations.
"""

import json
import math
import os
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, Strict

from sslbench.system.text import escape_control

CONFIG = "config.yaml"
RESULT = "result.json"
STATUS = "status.json"
WEIGHTS = "model.safetensors"
#: With `WEIGHTS`, what prediction needs: a `SavedModel`. `WHITENING` has its fitted tensors, if any.
MODEL = "model.json"
WHITENING = "whitening.safetensors"
#: The plan of a sweep, in the folder of the sweep: a `PlanEntry` a line.
PLAN = "cells.jsonl"
#: Of `RESULT`, `MODEL` and `PLAN`.
SCHEMA = 1

_OWN = "own"
# JSON has lists where records have tuples; Strict() keeps a bool or a text from standing for a number.
_Raw = Annotated[str, Strict(), Field(max_length=4096)]
Text = Annotated[_Raw, AfterValidator(escape_control)]
Whole = Annotated[int, Strict(), Field(gt=-(2**63), lt=2**63)]
Count = Annotated[Whole, Field(ge=0)]
Number = Annotated[float, Strict(), Field(allow_inf_nan=False)]
Fraction = Annotated[Number, Field(ge=0, le=1)]
#: Seconds and rates; sums and squares of much larger numbers would overflow.
Amount = Annotated[Number, Field(ge=0, le=1e12)]

Size = Annotated[Whole, Field(ge=1, le=2**31)]


def _folder(value: object) -> str:
    """A path that the system takes: no NUL, and no half of a character but Python's for raw bytes."""
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("should be the path of a folder")
    os.fsencode(value)  # a UnicodeEncodeError is a ValueError
    return value


class RunState(StrEnum):
    """How a run stands; all but the first are written to `STATUS`."""

    NOT_STARTED = "not started"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """Which run it is: the head of `RESULT`, and ``run`` in `STATUS` and `PLAN`.

    ``docs/run-folder.md`` says what each field means. The model of an algorithm that builds models of its own
    is null in a file, and ``own`` here. The SHA-256 is that of the data file, if there is one.
    """

    run_id: Text
    name: Text
    group: Text
    algorithm: Text
    dataset: Text
    dataset_sha256: Text | None = None
    model: Annotated[Text, BeforeValidator(lambda name: _OWN if name is None else name)]
    loss: Text | None
    num_labels: Count
    num_valid: Count
    seed: Whole
    split_seed: Whole
    steps: Count


@dataclass(frozen=True)
class Calibration:
    """A reliability diagram: equal bins of the top probability, from the lowest to the highest.

    Of each bin, the images, and their mean top probability and accuracy, which are None for an empty bin.
    """

    counts: tuple[Count, ...]
    confidence: tuple[Fraction | None, ...]
    accuracy: tuple[Fraction | None, ...]

    def __post_init__(self) -> None:
        """Check that the bins fit each other; see the class."""
        filled = [count > 0 for count in self.counts]
        if not any(filled) or any(
            [mean is not None for mean in means] != filled for means in (self.confidence, self.accuracy)
        ):
            raise ValueError("bins should have a confidence and an accuracy for each bin with images")

    @property
    def error(self) -> float:
        """Expected calibration error: the mean over images of their bin's gap (arXiv:1706.04599, eq. 3)."""
        gaps = [
            count * abs(right - confident)
            for count, confident, right in zip(self.counts, self.confidence, self.accuracy, strict=True)
            if confident is not None and right is not None
        ]
        return sum(gaps) / sum(self.counts)


def class_accuracies(confusion: Sequence[Sequence[int]]) -> tuple[float | None, ...]:
    """The accuracy on each class, from counts by true and then by predicted class; None without images."""
    return tuple(row[k] / sum(row) if any(row) else None for k, row in enumerate(confusion))


def balanced_accuracy(accuracies: Sequence[float | None]) -> float:
    """The mean of the accuracies on the classes that have images."""
    return statistics.fmean(accuracy for accuracy in accuracies if accuracy is not None)


@dataclass(frozen=True, kw_only=True)
class RunResult(RunSummary):
    """A finished run: the content of `RESULT`, in which the folder is not.

    ``docs/run-folder.md`` says what each field means. Those with a default are absent in older files.
    """

    folder: Path
    split_hash: Text
    overrides: tuple[_Raw, ...]
    val_acc_best: Fraction
    step_best: Count
    test_acc: Fraction
    test_acc_last: Fraction
    test_acc_median20: Fraction
    test_ece: Fraction
    test_calibration: Calibration | None = None
    test_balanced_acc: Fraction | None = None
    test_class_acc: tuple[Fraction | None, ...] | None = None
    test_confusion: tuple[tuple[Count, ...], ...] | None = None
    metrics_best: dict[Text, Number] = field(default_factory=dict)
    metrics_last: dict[Text, Number] = field(default_factory=dict)
    train_seconds: Amount
    steps_per_second: Amount
    gpu_memory_peak: Count | None = None
    device: Text
    precision: Text
    torch: Text
    sslbench_version: Text | None = None
    git_commit: Text | None

    def content(self) -> dict[str, Any]:
        """What `RESULT` holds, in the types of JSON; metrics that are not finite are left out."""
        record = {name: value for name, value in asdict(self).items() if name != "folder"}
        for name in ("metrics_best", "metrics_last"):
            record[name] = {key: value for key, value in record[name].items() if math.isfinite(value)}
        content: dict[str, Any] = json.loads(json.dumps({"schema": SCHEMA, **record}))
        return content


@dataclass(frozen=True, kw_only=True)
class SavedModel:
    """What prediction with the weights of a run needs beside its configuration: the content of `MODEL`.

    Attributes:
        predictor: the module of the algorithm that `WEIGHTS` belong to.
        num_train: training images; some algorithms have a buffer for each.
        class_names: of the outputs, in their order.
        mean: what is subtracted from pixel / 255, for each channel, or one for all.
        std: what that is divided by, likewise.
        preprocess: ``none``, or ``gcn_zca``: whitening with `WHITENING`, in place of mean and std.
    """

    sslbench_version: Text
    predictor: Text
    channels: Size
    height: Size
    width: Size
    num_train: Size
    class_names: Annotated[tuple[Text, ...], Field(min_length=2)]
    mean: tuple[Number, ...]
    std: tuple[Number, ...]
    preprocess: Text


@dataclass(frozen=True, kw_only=True)
class PlanEntry:
    """A run that a sweep planned: a line of `PLAN`.

    The folder is as seen from that of the plan. Settings are all that the run computes but its seeds, as
    nested mappings; plans of older versions have none.
    """

    folder: Annotated[str, PlainValidator(_folder)]
    run: RunSummary
    settings: dict[str, Any] = field(default_factory=dict)
