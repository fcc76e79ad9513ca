"""Accuracy over steps: reading the ``metrics.jsonl`` of each run once."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sslbench.errors import UserError
from sslbench.report.compare.groups import Group
from sslbench.rundir.records import RESULT, RunResult
from sslbench.system.paths import relative
from sslbench.system.safe_files import read_text
from sslbench.tracking.jsonl import FILE_NAME

TEST, VALID = "test/acc", "val/acc"
Points = dict[int, tuple[float, float]]  # test and validation accuracy by step
_TOLERANCE = 1e-9  # of an accuracy that was written twice
_Accuracy = Annotated[float, Field(ge=0, le=1)]


class _Point(BaseModel):
    """A line of the log; a number that is absent or was not finite is None."""

    model_config = ConfigDict(strict=True, frozen=True)

    step: Annotated[int, Field(ge=0)]
    test: Annotated[_Accuracy | None, Field(alias=TEST)] = None
    valid: Annotated[_Accuracy | None, Field(alias=VALID)] = None


def read_curves(run: RunResult) -> Points:
    """Test and validation accuracy (fractions) of one run by step, ascending.

    Points without both accuracies are left out. Should a step have been logged twice, the later line counts.

    Raises:
        UserError: ``metrics.jsonl`` is missing or damaged, or is not the whole log of `run`.
    """
    path = run.folder / FILE_NAME
    points: Points = {}
    where = relative(path)
    for number, line in enumerate(read_text(path, where).rstrip("\n").splitlines(), start=1):
        try:
            point = _Point.model_validate_json(line)
        except ValidationError as error:
            raise UserError(f"{where}, line {number}: not a log point") from error
        if point.test is not None and point.valid is not None:
            points[point.step] = (point.test, point.valid)
    # A result is written after the last step, which is always evaluated: the log ends where the result does.
    if not points:
        raise UserError(f"{where} has no step with {TEST} and {VALID}")
    last = max(points)
    if last != run.steps:
        raise UserError(f"{where}: the last evaluation is that of step {last}, not of step {run.steps}")
    acc = points[last][0]
    if abs(acc - run.test_acc_last) > _TOLERANCE:
        raise UserError(f"{where}: the last {TEST} is {acc}, but {run.test_acc_last} in {RESULT}")
    return dict(sorted(points.items()))


@dataclass(frozen=True)
class Curve:
    """Accuracy (percent) of a group over the steps that all its runs have.

    Attributes:
        steps: ascending.
        mean: test accuracy, mean over the runs.
        low: lowest test accuracy of a run.
        high: highest test accuracy of a run.
        valid: validation accuracy, mean over the runs.
        n: runs in it.
    """

    steps: NDArray[np.int64]
    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    valid: NDArray[np.float64]
    n: int


def gather_curves(groups: Iterable[Group]) -> tuple[dict[int, Curve], list[str]]:
    """The curves by the number of the group, and a warning for each run or group that cannot be drawn."""
    found: dict[int, Curve] = {}
    warnings: list[str] = []
    for group in groups:
        curves = []
        for run in group.runs:
            try:
                curves.append(read_curves(run))
            except UserError as error:
                warnings.append(f"{error}: left out of the curves")
        if not curves:
            continue
        # Only steps that every run has: a mean over fewer seeds would jump where one is missing.
        steps = [step for step in curves[0] if all(step in curve for curve in curves[1:])]
        if not steps:
            what = "no step was evaluated in all of its runs; left out of the curves"
            warnings.append(f"group '{group.identity.group}': {what}")
            continue
        shares = np.array([[curve[step] for step in steps] for curve in curves])
        test, valid = 100 * shares[..., 0], 100 * shares[..., 1]
        lowest, mean, highest = test.min(axis=0), test.mean(axis=0), test.max(axis=0)
        found[group.number] = Curve(np.array(steps), mean, lowest, highest, valid.mean(axis=0), len(curves))
    return found, warnings
