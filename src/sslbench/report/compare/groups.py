"""Grouping runs over their seeds: means, standard deviations, what is missing, and ranks."""

import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple, TypeVar

from sslbench.report.read.find import MissingRun
from sslbench.rundir.records import RunResult, RunSummary

T = TypeVar("T")
K = TypeVar("K")

BASELINE = "supervised"  # a baseline also where its configuration is not known
#: Of a mean; means that differ by less differ in the order of their additions only.
DIGITS = 12
#: Evaluations that `test_acc_median20` is the median of; a shorter run has no such number.
MEDIAN_OF = 20

#: The numbers of a run that are averaged over a group, by their names in ``--table``: fractions, and seconds.
MEASURES: Mapping[str, Callable[[RunResult], float]] = {
    "test_error": lambda run: 1 - run.test_acc,
    "test_error_last": lambda run: 1 - run.test_acc_last,
    "test_error_median20": lambda run: 1 - run.test_acc_median20,
    "test_ece": lambda run: run.test_ece,
    "val_acc_best": lambda run: run.val_acc_best,
    "train_seconds": lambda run: run.train_seconds,
}


class Task(NamedTuple):
    """What groups must share to be ranked against each other."""

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
class MeanStd:
    """A mean with its standard deviation and the number of its values.

    Attributes:
        mean: in the unit of the values.
        std: sample standard deviation (n - 1 in the denominator); None for one value.
        n: number of values.
    """

    mean: float
    std: float | None
    n: int


def mean_std(values: Sequence[float]) -> MeanStd:
    """Mean and sample standard deviation of at least one value."""
    std = statistics.stdev(values) if len(values) > 1 else None
    return MeanStd(statistics.fmean(values), std, len(values))


def algorithm_label(run: RunSummary) -> str:
    """Algorithm and distance, such as ``vat (kl)``."""
    return f"{run.algorithm} ({run.loss})" if run.loss else run.algorithm


@dataclass(frozen=True)
class Group:
    """The runs of one configuration.

    Attributes:
        number: its row in the tables, from 1.
        runs: those with a result, sorted by seed, then split seed; there may be none.
        missing: those without, likewise sorted; never both empty.
        dataset: the name of its data, which no other data of the report has.
        settings: in which it differs from other rows of its task and which have no column, as text.
        evaluations: how often each of its runs was evaluated; None where its configuration is not known.
        labelled_only: whether its algorithm reads no unlabelled images; False where that is not known.
        strong: whether its algorithm has a strong view; False where that is not known.
    """

    number: int
    runs: tuple[RunResult, ...]
    missing: tuple[MissingRun, ...] = ()
    dataset: str = ""
    settings: str = ""
    evaluations: int | None = None
    labelled_only: bool = False
    strong: bool = False

    @property
    def is_baseline(self) -> bool:
        """Whether other algorithms are compared with it."""
        return self.labelled_only or self.identity.algorithm == BASELINE

    @cached_property
    def identity(self) -> RunSummary:
        """The first run, for what all runs of the group share."""
        if self.runs:
            return self.runs[0]
        run = self.missing[0].run
        assert run is not None, "a missing run of a group says which run it is"
        return run

    @property
    def label(self) -> str:
        """Algorithm and distance, such as ``vat (kl)``."""
        return algorithm_label(self.identity)

    @cached_property
    def task(self) -> Task:
        """The task within which it is ranked."""
        run = self.identity
        return Task(self.dataset or run.dataset, run.num_labels, run.num_valid, run.steps)

    @property
    def variant_of(self) -> tuple[Task, str, str]:
        """What its variants share: task, algorithm and model."""
        return self.task, self.identity.algorithm, self.identity.model

    def value(self, measure: str, run: RunResult) -> float | None:
        """One of `MEASURES` of a run; None for a median of more evaluations than there are."""
        if measure == "test_error_median20" and (self.evaluations or 0) < MEDIAN_OF:
            return None
        return MEASURES[measure](run)

    def mean_std(self, measure: str) -> MeanStd | None:
        """One of `MEASURES` over the runs; None where no run has it."""
        values = [value for run in self.runs if (value := self.value(measure, run)) is not None]
        return mean_std(values) if values else None

    @cached_property
    def test_error(self) -> MeanStd:
        """Test error at the step of the best validation accuracy, as a fraction; there must be a run."""
        return mean_std([MEASURES["test_error"](run) for run in self.runs])

    @cached_property
    def val_acc(self) -> MeanStd:
        """The highest validation accuracy, as a fraction; there must be a run."""
        return mean_std([run.val_acc_best for run in self.runs])

    @property
    def seeds(self) -> str:
        """How many runs there are, and of how many if some are missing."""
        n, missing = len(self.runs), len(self.missing)
        return f"{n} of {n + missing}" if missing else str(n)


def group_runs(runs: Iterable[RunResult], missing: Iterable[MissingRun] = ()) -> list[Group]:
    """Group by ``group``, in the order of `numbered`.

    Args:
        runs: those with a result, without conflicts.
        missing: those without; one that finished in another folder is not missed.
    """
    in_order = sorted(runs, key=lambda run: (run.seed, run.split_seed))
    by_name = collected(in_order, lambda run: run.group)
    finished = {(run.group, run.seed, run.split_seed) for members in by_name.values() for run in members}
    missed: dict[str, dict[tuple[int, int], MissingRun]] = defaultdict(dict)
    for entry in missing:
        run = entry.run
        if run and (run.group, run.seed, run.split_seed) not in finished:
            missed[run.group].setdefault((run.seed, run.split_seed), entry)
    return numbered(
        Group(0, tuple(by_name.get(name, ())), tuple(missed[name][seeds] for seeds in sorted(missed[name])))
        for name in {**by_name, **missed}
    )


def numbered(groups: Iterable[Group]) -> list[Group]:
    """Sorted by `Task`, then mean test error, with their rows; those of a task without a result last."""

    def order(group: Group) -> tuple[Task, float, str]:
        return group.task, group.test_error.mean if group.runs else 2.0, group.identity.group

    return [replace(group, number=row) for row, group in enumerate(sorted(groups, key=order), start=1)]


def collected(items: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    """The items by their key, in their order."""
    found: dict[K, list[T]] = defaultdict(list)
    for item in items:
        found[key(item)].append(item)
    return dict(found)


def by_task(groups: Iterable[Group]) -> dict[Task, list[Group]]:
    """The groups of each task, in their order."""
    return collected(groups, lambda group: group.task)


def with_results(groups: Iterable[Group]) -> list[Group]:
    """The groups with at least one result."""
    return [group for group in groups if group.runs]


def ranks(groups: Iterable[Group]) -> dict[int, int]:
    """The rank of each group with a result by mean test error within its `Task`, from 1; ties share it."""
    found = {}
    for members in by_task(with_results(groups)).values():
        errors = {group.number: round(group.test_error.mean, DIGITS) for group in members}
        for number, error in errors.items():
            found[number] = 1 + sum(other < error for other in errors.values())
    return found


def selected_variants(groups: Iterable[Group]) -> dict[int, int]:
    """The groups that validation selects among the variants of an algorithm, with how many it selects from.

    Variants share `Group.variant_of`. Those that lack seeds are left
    out while there are others, as one of them may be lucky with the seeds that it has.
    """
    groups = with_results(groups)
    incomplete = incomplete_seeds(groups)
    found = {}
    for members in collected(groups, lambda group: group.variant_of).values():
        complete = [group for group in members if not group.missing and group.number not in incomplete]
        best = best_by_validation(complete or members)
        if best and len(members) > 1:
            found[best.number] = len(complete or members)
    return found


def incomplete_seeds(groups: Iterable[Group]) -> set[int]:
    """The groups that lack a seed or draw of the labels that most groups of their task have, by number.

    Where no seed or draw is in most groups, all groups of the task lack some.
    """
    found = set()
    for members in by_task(with_results(groups)).values():
        draws = {
            group.number: frozenset((run.seed, run.split_seed, run.split_hash) for run in group.runs)
            for group in members
        }
        counts = Counter(draw for own in draws.values() for draw in own)
        usual = {draw for draw, count in counts.items() if 2 * count > len(members)}
        found |= {number for number, own in draws.items() if not usual or not own >= usual}
    return found


def validation_order(group: Group) -> tuple[float, str]:
    """The key that sorts groups with a result by validation accuracy, the best first, then by name.

    Test errors, and so rows, select nothing.
    """
    return -round(group.val_acc.mean, DIGITS), group.identity.group


def best_by_validation(groups: Iterable[Group]) -> Group | None:
    """The group with the highest mean validation accuracy."""
    return min(with_results(groups), key=validation_order, default=None)
