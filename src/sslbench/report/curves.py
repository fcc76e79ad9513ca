"""Accuracy over steps: reading the ``metrics.jsonl`` of each run once."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from sslbench.errors import UserError
from sslbench.report.groups import Group
from sslbench.report.reading import read_text
from sslbench.report.results import RunResult
from sslbench.report.text import relative
from sslbench.tracking.jsonl import FILE_NAME

TEST, VALID = "test/acc", "val/acc"
_KEYS = ("step", TEST, VALID)
_LARGEST_STEP = 2**53  # the last whole number that a float holds exactly


def read_curves(run: RunResult) -> pd.DataFrame:
    """Validation and test accuracy (fractions) of one run, indexed by step, ``float64``.

    A last line that was torn by a kill is left out, and so are points with neither accuracy.

    Raises:
        UserError: ``metrics.jsonl`` is missing, damaged, or has no step with both accuracies.
    """
    path = run.folder / FILE_NAME
    lines = read_text(path).rstrip("\n").split("\n")
    points = []
    for number, line in enumerate(lines, start=1):
        point = _point(line)
        if point is None:
            if number < len(lines):
                raise UserError(f"{relative(path)}, line {number}: not a log point")
            continue
        if None not in point:
            points.append(point)
    # Should a step have been logged twice, the later line counts.
    curves = pd.DataFrame(points, columns=list(_KEYS), dtype=float).drop_duplicates("step", keep="last")
    if curves.empty:
        raise UserError(f"{relative(path)} has no step with {TEST} and {VALID}")
    return curves.set_index("step").sort_index()


def _point(line: str) -> tuple[float | None, ...] | None:
    """Step, test and validation accuracy; a number that is absent or was not finite is None."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or "step" not in found:
        return None
    step, *accuracies = (found.get(key) for key in _KEYS)
    if isinstance(step, bool) or not isinstance(step, int) or not 0 <= step <= _LARGEST_STEP:
        return None
    for value in accuracies:
        if value is not None and (
            isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1
        ):
            return None
    return (step, *accuracies)


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

    steps: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    valid: np.ndarray
    n: int


@dataclass(frozen=True)
class Curves:
    """The curves of many groups.

    Attributes:
        of: by the number of the group; groups that cannot be drawn are not in it.
        warnings: a line for each run or group that was left out.
    """

    of: dict[int, Curve] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def gather_curves(groups: Iterable[Group]) -> Curves:
    """Read the curves of every run; one that is damaged is left out with a warning."""
    found = Curves()
    for group in groups:
        curves = []
        for run in group.runs:
            try:
                curves.append(read_curves(run))
            except UserError as error:
                found.warnings.append(f"{error}: left out of the curves")
        if not curves:
            continue
        # Only steps that every run has: a mean over fewer seeds would jump where one is missing.
        test = 100 * pd.concat([curve[TEST] for curve in curves], axis=1, join="inner")
        valid = 100 * pd.concat([curve[VALID] for curve in curves], axis=1, join="inner")
        if test.empty:
            found.warnings.append(
                f"group '{group.head.group}': no step was evaluated in all of its runs; "
                "left out of the curves"
            )
            continue
        low, mean, high = (getattr(test, name)(axis=1).to_numpy() for name in ("min", "mean", "max"))
        found.of[group.number] = Curve(
            test.index.to_numpy(), mean, low, high, valid.mean(axis=1).to_numpy(), len(curves)
        )
    return found
