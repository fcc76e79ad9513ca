"""Grouping runs over their seeds, statistics, and the command that repeats a group."""

from __future__ import annotations

import math
import shlex
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sslbench.errors import UserError
from sslbench.report.results import RunResult, relative

BASELINE = "supervised"
# Runs whose configurations differ in their seeds only agree in these.
_SHARED = ("dataset", "num_labels", "num_valid", "algorithm", "loss", "model", "steps", "precision")
# Two runs of the same configuration and seeds that agree in these are one run, trained or copied twice.
_OUTCOME = ("run_id", "split_hash", "step_best", "val_acc_best", "test_acc", "test_acc_last", "test_ece")
# Left out of commands: seeds, which are listed together, and the folders of one person's machine.
_NOT_REPEATED = ("seed", "split_seed", "run_dir", "output_root", "data_root")


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
        runs: at least one, sorted by seed, then split seed.
    """

    number: int
    runs: tuple[RunResult, ...]

    @property
    def head(self) -> RunResult:
        """The first run, for what all runs of the group share."""
        return self.runs[0]

    @property
    def label(self) -> str:
        """Algorithm and distance, such as ``vat (kl)``."""
        return f"{self.head.algorithm} ({self.head.loss})" if self.head.loss else self.head.algorithm

    @property
    def test_error(self) -> Spread:
        """Test error at the step of the best validation accuracy, as a fraction."""
        return spread([1 - run.test_acc for run in self.runs])


@dataclass(frozen=True)
class Difference:
    """The test error of a method minus that of the supervised baseline, as fractions.

    Attributes:
        method: the group compared.
        baseline: the supervised group with the same data, labels, steps and splits.
        mean: negative where the method is better.
        standard_error: of `mean`; None when a side has one run.
        paired: whether each run was compared with the baseline's run of the same seeds and split.
    """

    method: Group
    baseline: Group
    mean: float
    standard_error: float | None
    paired: bool


def _check_group(name: str, runs: Sequence[RunResult]) -> None:
    for field in _SHARED:
        values = {getattr(run, field): run for run in runs}
        if len(values) > 1:
            (one, run), (other, run_2) = list(values.items())[:2]
            raise UserError(
                f"group '{name}' has {field} {one} in {relative(run.folder)} and {other} in "
                f"{relative(run_2.folder)}: a group may differ in its seeds only"
            )
    by_seeds: dict[tuple[int, int], RunResult] = {}
    for run in runs:
        # Twice the same seeds would count as two draws and make the spread too small.
        twin = by_seeds.setdefault((run.seed, run.split_seed), run)
        if twin is not run:
            raise UserError(
                f"{relative(twin.folder)} and {relative(run.folder)} are the same configuration with the "
                f"same seed {run.seed} and split_seed {run.split_seed}: give one of them"
            )


def without_copies(runs: Iterable[RunResult]) -> tuple[list[RunResult], list[RunResult]]:
    """The runs, each once, and those left out since an earlier one is the same run with the same outcome."""
    runs = list(runs)
    kept: dict[tuple[object, ...], RunResult] = {}
    for run in runs:
        kept.setdefault(tuple(getattr(run, name) for name in _OUTCOME), run)
    return list(kept.values()), [run for run in runs if run not in kept.values()]


def group_runs(runs: Iterable[RunResult]) -> list[Group]:
    """Group by `RunResult.group`, sorted by data set, number of labels, then mean test error.

    Raises:
        UserError: runs of a group differ in more than their seeds, or two have the same seeds.
    """
    by_group: dict[str, list[RunResult]] = defaultdict(list)
    for run in runs:
        by_group[run.group].append(run)
    groups = []
    for name, members in by_group.items():
        _check_group(name, members)
        members.sort(key=lambda run: (run.seed, run.split_seed))
        groups.append(Group(0, tuple(members)))

    def order(group: Group) -> tuple[str, int, float, str]:
        head = group.head
        return head.dataset, head.num_labels, group.test_error.mean, head.group

    return [Group(number, group.runs) for number, group in enumerate(sorted(groups, key=order), start=1)]


def _pairs(group: Group) -> dict[tuple[int, int, str], float]:
    return {(run.seed, run.split_seed, run.split_hash): 1 - run.test_acc for run in group.runs}


def _difference(method: Group, baseline: Group) -> Difference:
    ours, theirs = _pairs(method), _pairs(baseline)
    if ours.keys() == theirs.keys():
        gaps = spread([ours[key] - theirs[key] for key in ours])
        error = None if gaps.std is None else gaps.std / math.sqrt(gaps.n)
        return Difference(method, baseline, gaps.mean, error, paired=True)
    a, b = method.test_error, baseline.test_error
    welch = None if a.std is None or b.std is None else math.sqrt(a.std**2 / a.n + b.std**2 / b.n)
    return Difference(method, baseline, a.mean - b.mean, welch, paired=False)


def differences_to_supervised(groups: Iterable[Group]) -> tuple[list[Difference], list[Group]]:
    """Compare each method with each supervised group of the same data, labels, steps and splits.

    Where supervised groups with the method's own model exist, only those count. Runs are paired when both
    sides have the same seeds and splits; otherwise the standard error is Welch's.

    Returns:
        The differences in the order of `groups`, and the methods that have nothing to be compared with.
    """

    def task(group: Group) -> tuple[str, int, int, int, frozenset[str]]:
        head = group.head
        splits = frozenset(run.split_hash for run in group.runs)
        return head.dataset, head.num_labels, head.num_valid, head.steps, splits

    groups = list(groups)
    baselines = [group for group in groups if group.head.algorithm == BASELINE]
    differences, alone = [], []
    for method in groups:
        if method.head.algorithm == BASELINE:
            continue
        same_task = [baseline for baseline in baselines if task(baseline) == task(method)]
        same_model = [baseline for baseline in same_task if baseline.head.model == method.head.model]
        differences += [_difference(method, baseline) for baseline in same_model or same_task]
        if not same_task:
            alone.append(method)
    return differences, alone


def _override_key(override: str) -> str:
    return override.lstrip("+~").partition("=")[0]


def _sweep(typed: Sequence[str], split_seeds: Sequence[int], seeds: Sequence[int]) -> str:
    sweep = ["-m"] if len(split_seeds) > 1 or len(seeds) > 1 else []
    draws = {"split_seed": split_seeds, "seed": seeds}
    values = [f"{key}={','.join(map(str, drawn))}" for key, drawn in draws.items() if drawn]
    return shlex.join(["sslbench", *sweep, *typed, *values])


def commands(group: Group) -> list[str]:
    """The shell lines that run the group again, quoted; split seeds are listed where typed or different.

    The folders ``run_dir``, ``output_root`` and ``data_root`` are left out: they change no number.

    Where each run's split seed is its seed, the line says so once. Otherwise one line is enough, unless
    the runs were typed in more than one way, or their seeds and split seeds do not form the full grid that
    a sweep runs.
    """
    by_typed: dict[tuple[str, ...], list[RunResult]] = defaultdict(list)
    for run in group.runs:
        typed = (override for override in run.overrides if _override_key(override) not in _NOT_REPEATED)
        by_typed[tuple(typed)].append(run)
    list_split = len({run.split_seed for run in group.runs}) > 1 or any(
        _override_key(override) == "split_seed" for run in group.runs for override in run.overrides
    )
    lines = []
    for typed_once, runs in by_typed.items():
        if list_split and all(run.split_seed == run.seed for run in runs):
            lines.append(_sweep([*typed_once, "split_seed=${seed}"], [], [run.seed for run in runs]))
            continue
        seeds_of: dict[int, list[int]] = defaultdict(list)
        for run in runs:  # sorted by seed, as in the group
            seeds_of[run.split_seed].append(run.seed)
        grids: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for split_seed in sorted(seeds_of):
            grids[tuple(seeds_of[split_seed])].append(split_seed)
        lines += [
            _sweep(typed_once, split_seeds if list_split else [], seeds)
            for seeds, split_seeds in grids.items()
        ]
    return lines
