"""The ``result.json`` of a run."""

from __future__ import annotations

import math
import reprlib
from dataclasses import dataclass, field
from pathlib import Path

from sslbench.errors import UserError
from sslbench.report.read.fields import (
    Calibration,
    Count,
    Fraction,
    Metrics,
    Positive,
    read_fields,
    read_object,
)
from sslbench.system.paths import relative
from sslbench.system.text import ellipsize, escape_control

SCHEMA = 1
RESULT = "result.json"
_SAID_TWICE = (
    ("val_acc_best", "metrics_best", "val/acc"),
    ("test_acc", "metrics_best", "test/acc"),
    ("test_acc_last", "metrics_last", "test/acc"),
)
_ROUNDING = 1e-9


@dataclass(frozen=True)
class RunResult:
    """One finished run: the fields of its ``result.json`` that a report uses.

    Attributes:
        folder: the run directory; not in the file.
        run_id: unique for a configuration with its seeds.
        name: for people.
        group: the configuration without its seeds.
        algorithm: as in ``algorithm=``.
        dataset: as in ``dataset=``.
        model: as in ``model=``.
        loss: the distance; None for an algorithm that has none.
        num_labels: labelled training images.
        num_valid: validation images, which pick the step.
        seed: of everything but the split.
        split_seed: of the split.
        split_hash: of the split's index arrays.
        steps: length of the run in optimizer steps.
        overrides: the Hydra overrides as typed.
        val_acc_best: the highest validation accuracy, as a fraction like all that follow.
        step_best: the step it was reached at.
        test_acc: test accuracy at `step_best`.
        test_acc_last: test accuracy after the last step.
        test_acc_median20: median test accuracy of the last 20 evaluations.
        test_ece: expected calibration error on the test set at `step_best`.
        train_seconds: wall-clock time of the training, in seconds.
        steps_per_second: throughput, in 1/s.
        device: name of the GPU, or ``cpu``.
        precision: of the forward passes, ``fp32`` or ``bf16``.
        torch: version.
        git_commit: None when the package was not run from a checkout.
        metrics_best: every number of the evaluation at `step_best`, by name; empty in older files.
        metrics_last: likewise of the last evaluation, with the method's own numbers.
        test_calibration: the bins that `test_ece` sums over; None in older files.
    """

    folder: Path
    run_id: str
    name: str
    group: str
    algorithm: str
    dataset: str
    model: str
    loss: str | None
    num_labels: Count
    num_valid: Count
    seed: int
    split_seed: int
    split_hash: str
    steps: Count
    overrides: tuple[str, ...]
    val_acc_best: Fraction
    step_best: Count
    test_acc: Fraction
    test_acc_last: Fraction
    test_acc_median20: Fraction
    test_ece: Fraction
    train_seconds: Positive
    steps_per_second: Positive
    device: str
    precision: str
    torch: str
    git_commit: str | None
    metrics_best: Metrics = field(default_factory=dict)
    metrics_last: Metrics = field(default_factory=dict)
    test_calibration: Calibration | None = None


def load_result(path: Path) -> RunResult:
    """Read one ``result.json``; fields that a report does not use are ignored.

    Raises:
        UserError: the file cannot be read, is of another schema, lacks a field or has a wrong value in it, or
            says two things that do not agree.
    """
    found = read_object(path)
    require_schema(found.get("schema"), relative(path))
    run = read_fields(RunResult, found, relative(path), folder=path.parent)
    if contradiction := _contradiction(run):
        raise UserError(f"{relative(path)} contradicts itself: {contradiction}")
    return run


def _contradiction(run: RunResult) -> str:
    """What an edited or mixed-up result says twice and differently; empty if nothing."""
    if run.step_best > run.steps:
        return f"step_best is {run.step_best} of {run.steps} steps"
    for name, metrics, key in _SAID_TWICE:
        value, again = getattr(run, name), getattr(run, metrics).get(key)
        if again is not None and not math.isclose(value, again, abs_tol=_ROUNDING):
            return f"{name} is {value}, and '{key}' of {metrics} is {again}"
    return ""


def require_schema(schema: object, where: str) -> None:
    """Refuse what another version wrote.

    Raises:
        UserError: `schema` is not 1.
    """
    if schema != SCHEMA or isinstance(schema, bool):
        shown = escape_control(ellipsize(reprlib.repr(schema), 40))
        raise UserError(f"{where} has schema {shown}, this version reads schema {SCHEMA}")
