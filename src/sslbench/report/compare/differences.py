"""The difference of each algorithm to its baseline, and how certain it is."""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sslbench.report.compare.groups import (
    DIGITS,
    MEASURES,
    Group,
    by_task,
    collected,
    mean_std,
    with_results,
)
from sslbench.rundir.records import RunResult

LEVEL = 0.95
RESAMPLES = 9_999
_NO_STD = 1e-12  # a standard deviation below this is what rounding makes of equal differences

Interval = tuple[float, float]


@dataclass(frozen=True)
class Difference:
    """The test error of a group minus that of its baseline, as fractions.

    Attributes:
        group: the group compared.
        baseline: the group with the same data, labels, validation images and steps.
        mean: negative where the group is better.
        n: pairs of runs with the same seeds and split, or splits where several have several pairs each; 0
            when there are none and the means are compared.
        standard_error: of `mean`; None for one pair, or when a side of an unpaired comparison has one run.
        bootstrap: 95 % percentile interval of `mean` over resampled pairs; None for fewer than two pairs,
            or if all differ by the same.
        t_interval: 95 % interval of `mean` by Student's t; None likewise.
    """

    group: Group
    baseline: Group
    mean: float
    n: int
    standard_error: float | None
    bootstrap: Interval | None = None
    t_interval: Interval | None = None


def bootstrap_interval(differences: Sequence[float]) -> Interval:
    """95 % percentile interval of the mean of at least two differences, over 9,999 resamples.

    Each call draws the same resamples, so that a row does not depend on the rows before it. With few pairs
    the interval is too short: ``docs/design/comparison.md`` says by how much.
    """
    import numpy as np
    from scipy.stats import bootstrap

    found = bootstrap(
        (differences,),
        np.mean,
        n_resamples=RESAMPLES,
        confidence_level=LEVEL,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(found.low), float(found.high)


def t_interval(differences: Sequence[float]) -> Interval:
    """95 % interval of the mean of at least two differences by Student's t."""
    from scipy.stats import t

    number = mean_std(differences)
    assert number.std is not None, "one difference has no interval"
    half = float(t.ppf((1 + LEVEL) / 2, number.n - 1)) * number.std / math.sqrt(number.n)
    return number.mean - half, number.mean + half


def _pair_key(run: RunResult) -> tuple[int, int, str]:
    """What two runs must share to be a pair."""
    return run.seed, run.split_seed, run.split_hash


def _errors(group: Group) -> dict[tuple[int, int, str], float]:
    return {_pair_key(run): MEASURES["test_error"](run) for run in group.runs}


def _independent(group: Group, baseline: Group) -> list[float]:
    """The differences that count as independent.

    Runs that share a split share its labels, and with them most of their luck. Where there are several splits
    and one of them has several pairs, each split is therefore one difference, the mean over its pairs. With a
    single split the pairs are all there is.
    """
    ours, theirs = _errors(group), _errors(baseline)
    by_split: dict[str, list[float]] = defaultdict(list)
    for key, error in ours.items():
        if key in theirs:
            by_split[key[2]].append(error - theirs[key])
    splits = list(by_split.values())
    return splits[0] if len(splits) == 1 else [mean_std(pairs).mean for pairs in splits]


def _difference(group: Group, baseline: Group) -> Difference | None:
    """None where no pair exists and the splits differ too: then the labels differ, and nothing compares."""
    pairs = _independent(group, baseline)
    if pairs:
        number = mean_std(pairs)
        error = None if number.std is None else number.std / math.sqrt(number.n)
        # Of one pair there is no interval, and one without width would claim certainty.
        sure = number.std is not None and number.std >= _NO_STD
        intervals = (bootstrap_interval(pairs), t_interval(pairs)) if sure else (None, None)
        return Difference(group, baseline, number.mean, number.n, error, *intervals)
    if {run.split_hash for run in group.runs} != {run.split_hash for run in baseline.runs}:
        return None
    a, b = group.test_error, baseline.test_error
    welch = None if a.std is None or b.std is None else math.sqrt(a.std**2 / a.n + b.std**2 / b.n)
    return Difference(group, baseline, a.mean - b.mean, 0, welch)


def differences_to_baselines(
    groups: Iterable[Group], baseline: str | None = None
) -> tuple[list[Difference], list[Group]]:
    """Compare each group with each baseline of the same task.

    Where baselines with the same model exist, only those count; and of these, where there are some,
    those whose algorithm has a strong view if that of the group has one, and else has none. Runs are paired
    by their seeds and split, over the pairs that both sides have. Where there is no pair but the splits are
    the same, the means are compared with Welch's standard error.

    Args:
        groups: of any tasks.
        baseline: the one algorithm to compare all others with; None for `Group.is_baseline`.

    Returns:
        The differences in the order of `groups`, and the groups that have nothing to be compared with.
    """
    differences: list[Difference] = []
    unmatched = []
    for members in by_task(with_results(groups)).values():
        baselines: list[Group] = []
        others: list[Group] = []
        for group in members:
            is_one = group.is_baseline if baseline is None else group.identity.algorithm == baseline
            (baselines if is_one else others).append(group)
        for group in others:
            found = [d for one in baselines if (d := _difference(group, one))]
            if not found:
                unmatched.append(group)
            same_model = [d for d in found if d.baseline.identity.model == group.identity.model] or found
            differences += [d for d in same_model if d.baseline.strong == group.strong] or same_model
    return differences, unmatched


def row_differences(differences: Iterable[Difference]) -> dict[int, Difference]:
    """The one difference that stands in the row of each group in the summary, by the row's number.

    Of several baselines it is the one with the most runs in pairs, then the one with the best validation
    accuracy over the runs of those pairs. So a tuned baseline is the one to compare with, and runs of it
    without a pair do not count.
    """

    def order(difference: Difference) -> tuple[int, float, str]:
        keys, baseline = _errors(difference.group), difference.baseline
        paired = [run for run in baseline.runs if _pair_key(run) in keys]
        accuracy = mean_std([run.val_acc_best for run in paired or baseline.runs]).mean
        return -len(paired), -round(accuracy, DIGITS), baseline.identity.group

    by_row = collected(differences, lambda difference: difference.group.number)
    return {row: min(members, key=order) for row, members in by_row.items()}
