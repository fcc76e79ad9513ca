"""Each method's difference to the supervised baseline, and how sure it is."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sslbench.report.compare.groups import BASELINE, DIGITS, Group, spread
from sslbench.rundir.records import RunResult

LEVEL = 0.95
RESAMPLES = 9_999
_NO_SPREAD = 1e-12  # what the rounding of equal differences leaves

Interval = tuple[float, float]


@dataclass(frozen=True)
class Difference:
    """The test error of a method minus that of the supervised baseline, as fractions.

    Attributes:
        method: the group compared.
        baseline: the supervised group with the same data, labels, validation images and steps.
        mean: negative where the method is better.
        n: pairs of runs with the same seeds and split, or splits where several have several pairs each; 0
            when there are none and the means are compared.
        standard_error: of `mean`; None for one pair, or when a side of an unpaired comparison has one run.
        bootstrap: 95 % percentile interval of `mean` over resampled pairs; None for fewer than two pairs,
            or if all differ by the same.
        t_interval: 95 % interval of `mean` by Student's t; None likewise.
    """

    method: Group
    baseline: Group
    mean: float
    n: int
    standard_error: float | None
    bootstrap: Interval | None = None
    t_interval: Interval | None = None

    @property
    def paired(self) -> bool:
        """Whether runs of the same seeds and split were compared."""
        return self.n > 0


def bootstrap_interval(gaps: Sequence[float]) -> Interval:
    """95 % percentile interval of the mean of at least two differences, over 9,999 resamples.

    Each call draws the same resamples, so that a row does not depend on the rows before it. With few pairs
    the interval is too short: ``docs/design/comparison.md`` says by how much.
    """
    import numpy as np
    from scipy.stats import bootstrap

    found = bootstrap(
        (np.asarray(gaps),),
        np.mean,
        n_resamples=RESAMPLES,
        confidence_level=LEVEL,
        method="percentile",
        vectorized=True,
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(found.low), float(found.high)


def t_interval(gaps: Sequence[float]) -> Interval:
    """95 % interval of the mean of at least two differences by Student's t."""
    from scipy.stats import t

    number = spread(gaps)
    assert number.std is not None, "one difference has no interval"
    half = float(t.ppf((1 + LEVEL) / 2, number.n - 1)) * number.std / math.sqrt(number.n)
    return number.mean - half, number.mean + half


def _key(run: RunResult) -> tuple[int, int, str]:
    """What two runs must share to be a pair."""
    return run.seed, run.split_seed, run.split_hash


def _errors(group: Group) -> dict[tuple[int, int, str], float]:
    return {_key(run): 1 - run.test_acc for run in group.runs}


def _splits(group: Group) -> set[str]:
    return {run.split_hash for run in group.runs}


def _gaps(method: Group, baseline: Group) -> list[float]:
    """The differences that count as independent.

    Runs that share a split share its labels, and with them the better part of their luck. Where there are
    several splits and one of them has several pairs, each split is therefore one difference, the mean of its
    pairs'. A single split leaves nothing but its pairs.
    """
    ours, theirs = _errors(method), _errors(baseline)
    by_split: dict[str, list[float]] = defaultdict(list)
    for key, error in ours.items():
        if key in theirs:
            by_split[key[2]].append(error - theirs[key])
    splits = list(by_split.values())
    return splits[0] if len(splits) == 1 else [spread(pairs).mean for pairs in splits]


def _difference(method: Group, baseline: Group) -> Difference | None:
    """None where no pair exists and the splits differ too: then the labels differ, and nothing compares."""
    gaps = _gaps(method, baseline)
    if len(gaps) == 1:
        return Difference(method, baseline, gaps[0], 1, None)
    if gaps:
        number = spread(gaps)
        assert number.std is not None, "two differences have a spread"
        error = number.std / math.sqrt(number.n)
        if number.std < _NO_SPREAD:  # an interval without width would claim certainty
            return Difference(method, baseline, number.mean, number.n, error)
        intervals = bootstrap_interval(gaps), t_interval(gaps)
        return Difference(method, baseline, number.mean, number.n, error, *intervals)
    if _splits(method) != _splits(baseline):
        return None
    a, b = method.test_error, baseline.test_error
    welch = None if a.std is None or b.std is None else math.sqrt(a.std**2 / a.n + b.std**2 / b.n)
    return Difference(method, baseline, a.mean - b.mean, 0, welch)


def differences_to_supervised(groups: Iterable[Group]) -> tuple[list[Difference], list[Group]]:
    """Compare each method with each supervised group of the same task.

    Where supervised groups with the method's own model exist, only those count. Runs are paired by their
    seeds and split, over the pairs that both sides have. Where there is no pair but the splits are the same,
    the means are compared with Welch's standard error.

    Returns:
        The differences in the order of `groups`, and the methods that have nothing to be compared with.
    """
    finished = [group for group in groups if group.runs]
    baselines = [group for group in finished if group.head.algorithm == BASELINE]
    differences: list[Difference] = []
    alone = []
    for method in finished:
        if method.head.algorithm == BASELINE:
            continue
        same_task = [baseline for baseline in baselines if baseline.task == method.task]
        found = [gap for baseline in same_task if (gap := _difference(method, baseline))]
        same_model = [gap for gap in found if gap.baseline.head.model == method.head.model]
        differences += same_model or found
        if not found:
            alone.append(method)
    return differences, alone


def shown_beside(differences: Iterable[Difference]) -> dict[int, Difference]:
    """The one difference that stands in each method's row of the summary, by the row's number.

    Of several baselines it is the one with the most runs in pairs, then the one with the best validation
    accuracy, over the runs of those pairs: the baseline may have been tuned like the method, and other runs
    of it are no matter of this row.
    """
    chosen: dict[int, Difference] = {}

    def order(gap: Difference) -> tuple[int, float, str]:
        keys = _errors(gap.method)
        paired = [run for run in gap.baseline.runs if _key(run) in keys]
        accuracy = spread([run.val_acc_best for run in paired or gap.baseline.runs]).mean
        return -len(paired), -round(accuracy, DIGITS), gap.baseline.head.group

    for gap in differences:
        number = gap.method.number
        if number not in chosen or order(gap) < order(chosen[number]):
            chosen[number] = gap
    return chosen
