"""Grouping runs over their seeds: means, spreads, what is missing, and ranks."""

from __future__ import annotations

import os
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from sslbench.report.read.missing import MissingRun
from sslbench.rundir.records import RunResult, RunSummary
from sslbench.tracking.jsonl import FILE_NAME as METRICS

BASELINE = "supervised"
# Two runs of the same configuration and seeds that agree in these are one run, trained or copied twice.
_OUTCOME = ("run_id", "split_hash", "step_best", "val_acc_best", "test_acc", "test_acc_last", "test_ece")
#: Of a mean; means that differ by less differ in the order of their additions only.
DIGITS = 12


class Task(NamedTuple):
    """What methods must share to be ranked beside each other."""

    dataset: str
    num_labels: int
    num_valid: int
    steps: int

    def __str__(self) -> str:
        return (
            f"{self.dataset}, {self.num_labels} labels, {self.num_valid} validation images, "
            f"{self.steps} steps"
        )


@dataclass(frozen=True)
class Spread:
    """A mean that never travels without its spread and its count.

    Attributes:
        mean: in the unit of the values.
        std: sample standard deviation (n - 1 in the denominator); None for one value.
        n: number of values.
    """

    mean: float
    std: float | None
    n: int


def spread(values: Sequence[float]) -> Spread:
    """Mean and sample standard deviation of at least one value."""
    std = statistics.stdev(values) if len(values) > 1 else None
    return Spread(statistics.fmean(values), std, len(values))


@dataclass(frozen=True)
class Group:
    """The runs of one configuration.

    Attributes:
        number: its row in the tables, from 1.
        runs: those with a result, sorted by seed, then split seed; there may be none.
        missing: those without, likewise sorted; never both empty.
        settings: in which it differs from other rows of its task and which have no column, in words.
    """

    number: int
    runs: tuple[RunResult, ...]
    missing: tuple[MissingRun, ...] = ()
    settings: str = ""

    @cached_property
    def head(self) -> RunSummary:
        """The first run, for what all runs of the group share."""
        if self.runs:
            return self.runs[0]
        run = self.missing[0].run
        assert run is not None, "a missing run of a group says which run it is"
        return run

    @property
    def label(self) -> str:
        """Algorithm and distance, such as ``vat (kl)``."""
        return f"{self.head.algorithm} ({self.head.loss})" if self.head.loss else self.head.algorithm

    @property
    def task(self) -> Task:
        """What its runs are ranked within."""
        return Task(self.head.dataset, self.head.num_labels, self.head.num_valid, self.head.steps)

    @property
    def method(self) -> tuple[Task, str, str]:
        """What its variants share: task, algorithm and network."""
        return self.task, self.head.algorithm, self.head.model

    @cached_property
    def test_error(self) -> Spread:
        """Test error at the step of the best validation accuracy, as a fraction; there must be a run."""
        return spread([1 - run.test_acc for run in self.runs])

    @cached_property
    def val_acc(self) -> Spread:
        """The highest validation accuracy, as a fraction; there must be a run."""
        return spread([run.val_acc_best for run in self.runs])

    @property
    def seeds(self) -> str:
        """How many runs there are, and of how many if some are missing."""
        n, missing = len(self.runs), len(self.missing)
        return f"{n} of {n + missing}" if missing else str(n)


def without_copies(runs: Iterable[RunResult]) -> tuple[list[RunResult], list[RunResult]]:
    """The runs, each once, and those left out since another is the same run with the same outcome.

    Of several, the first that has a log stays: a result that was copied alone draws no curve.
    """
    kept: dict[tuple[object, ...], RunResult] = {}
    copies = []
    for run in runs:
        key = tuple(getattr(run, name) for name in _OUTCOME)
        other = kept.setdefault(key, run)
        if other is run:
            continue
        if _has_log(run) and not _has_log(other):
            kept[key], run = run, other
        copies.append(run)
    return list(kept.values()), copies


def _has_log(run: RunResult) -> bool:
    return os.path.isfile(run.folder / METRICS)  # noqa: PTH113 - Path.is_file raises in closed folders


def _missing_by_group(
    missing: Iterable[MissingRun], finished: set[tuple[str, int, int]]
) -> dict[str, list[MissingRun]]:
    """Each planned seed once, and none that finished in another folder."""
    by_group: dict[str, list[MissingRun]] = defaultdict(list)
    seen = set(finished)
    for cell in missing:
        if cell.run is None:
            continue
        key = (cell.run.group, cell.run.seed, cell.run.split_seed)
        if key not in seen:
            seen.add(key)
            by_group[cell.run.group].append(cell)
    for cells in by_group.values():
        cells.sort(key=lambda cell: (cell.run.seed, cell.run.split_seed) if cell.run else (0, 0))
    return by_group


def group_runs(runs: Iterable[RunResult], missing: Iterable[MissingRun] = ()) -> list[Group]:
    """Group by ``group``, sorted by `Task`, then mean test error; those of a task without a result last.

    Args:
        runs: those with a result, without conflicts.
        missing: those without; one that finished in another folder is not missed.
    """
    by_group: dict[str, list[RunResult]] = defaultdict(list)
    for run in runs:
        by_group[run.group].append(run)
    finished = {(run.group, run.seed, run.split_seed) for members in by_group.values() for run in members}
    missed = _missing_by_group(missing, finished)
    groups = []
    for name in {**by_group, **missed}:
        members = sorted(by_group.get(name, ()), key=lambda run: (run.seed, run.split_seed))
        groups.append(Group(0, tuple(members), tuple(missed.get(name, ()))))

    def order(group: Group) -> tuple[Task, float, str]:
        return group.task, group.test_error.mean if group.runs else 2.0, group.head.group

    ordered = sorted(groups, key=order)
    return [Group(number, group.runs, group.missing) for number, group in enumerate(ordered, start=1)]


def _finished_by_task(groups: Iterable[Group]) -> Iterable[list[Group]]:
    """Of each task, the groups with a result."""
    by_task: dict[Task, list[Group]] = defaultdict(list)
    for group in groups:
        if group.runs:
            by_task[group.task].append(group)
    return by_task.values()


def ranks(groups: Iterable[Group]) -> dict[int, int]:
    """The rank of each group with a result by mean test error within its `Task`, from 1; ties share it."""
    found = {}
    for members in _finished_by_task(groups):
        errors = {group.number: round(group.test_error.mean, DIGITS) for group in members}
        counts = Counter(errors.values())
        for number, error in errors.items():
            found[number] = 1 + sum(count for other, count in counts.items() if other < error)
    return found


def chosen_variants(groups: Iterable[Group]) -> dict[int, int]:
    """The groups that validation chooses among the variants of their method, with how many it chose from.

    Variants share `Group.method`; of one there is nothing to choose. Those that lack seeds, which one of them
    may be lucky with, are left out of the choice while there are others.
    """
    groups = list(groups)
    lacking = out_of_step(groups)
    variants: dict[tuple[Task, str, str], list[Group]] = defaultdict(list)
    for group in groups:
        if group.runs:
            variants[group.method].append(group)
    found = {}
    for members in variants.values():
        whole = [group for group in members if not group.missing and group.number not in lacking]
        best = best_by_validation(whole or members)
        if best and len(members) > 1:
            found[best.number] = len(whole or members)
    return found


def out_of_step(groups: Iterable[Group]) -> set[int]:
    """The groups that lack a seed or draw of the labels that most groups of their task have, by number.

    Where there is none that most have, all of a task's are: nothing there is compared with its like.
    """
    found = set()
    for members in _finished_by_task(groups):
        draws = {
            group.number: frozenset((run.seed, run.split_seed, run.split_hash) for run in group.runs)
            for group in members
        }
        counts = Counter(draw for has in draws.values() for draw in has)
        usual = {draw for draw, count in counts.items() if 2 * count > len(members)}
        found |= {number for number, has in draws.items() if not usual or not has >= usual}
    return found


def by_validation(group: Group) -> tuple[float, str]:
    """What groups with a result are sorted by, the best first: test numbers, and so rows, choose nothing."""
    return -round(group.val_acc.mean, DIGITS), group.head.group


def best_by_validation(groups: Iterable[Group]) -> Group | None:
    """The group with the highest mean validation accuracy."""
    return min((group for group in groups if group.runs), key=by_validation, default=None)
