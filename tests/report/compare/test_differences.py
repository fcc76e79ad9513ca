from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from helpers.report_runs import MakeRun
from sslbench.cli.report_command import main
from sslbench.report.compare.differences import (
    bootstrap_interval,
    differences_to_baselines,
    row_differences,
    t_interval,
)
from sslbench.report.compare.groups import Group, group_runs
from sslbench.report.read.find import find_runs

VAT = (0.951, 0.957, 0.943, 0.962)
SUPERVISED = (0.912, 0.921, 0.899, 0.914)


def _groups() -> list[Group]:
    return group_runs(find_runs([Path("runs")]).runs)


def test_paired_difference(make_run: MakeRun) -> None:
    for seed, (vat, supervised) in enumerate(zip(VAT, SUPERVISED, strict=True)):
        make_run("vat", seed, vat)
        make_run("supervised", seed, supervised)
    ((difference,), alone) = differences_to_baselines(_groups())
    # With t = mean / standard error, scipy's statistic gives the standard error back.
    t = stats.ttest_rel(1 - np.array(VAT), 1 - np.array(SUPERVISED)).statistic
    assert difference.n
    assert difference.mean == pytest.approx(np.mean(SUPERVISED) - np.mean(VAT))
    assert difference.standard_error == pytest.approx(difference.mean / t)
    assert alone == []


def test_pairs_follow_the_split_not_the_order(make_run: MakeRun) -> None:
    for seed, split in ((0, 5), (1, 4)):
        make_run("vat", seed, VAT[seed], split_seed=split)
        make_run("supervised", seed, SUPERVISED[seed], split_seed=split)
    ((difference,), _) = differences_to_baselines(_groups())
    assert difference.n
    # The same splits, but drawn with the other seed: the runs are no pairs any more.
    make_run("pi_model", 0, 0.93, split_seed=4)
    make_run("pi_model", 1, 0.94, split_seed=5)
    by_name = {d.group.identity.algorithm: d for d in differences_to_baselines(_groups())[0]}
    assert by_name["vat"].n
    assert not by_name["pi_model"].n


def test_pairs_are_the_seeds_that_both_sides_have(make_run: MakeRun) -> None:
    for seed, acc in enumerate(VAT[:3]):
        make_run("vat", seed, acc)
    for seed, acc in enumerate(SUPERVISED[1:], start=1):
        make_run("supervised", seed, acc)
    ((difference,), _) = differences_to_baselines(_groups())
    gaps = np.array(SUPERVISED[1:3]) - np.array(VAT[1:3])
    assert difference.n == 2
    assert difference.mean == pytest.approx(gaps.mean())
    assert difference.standard_error == pytest.approx(gaps.std(ddof=1) / np.sqrt(2))


def test_without_pairs_the_difference_is_welch(make_run: MakeRun) -> None:
    for seed, acc in enumerate(VAT[:3]):
        make_run("vat", seed, acc)
    for seed, acc in enumerate(SUPERVISED, start=10):
        make_run("supervised", seed, acc)
    ((difference,), _) = differences_to_baselines(_groups())
    t = stats.ttest_ind(1 - np.array(VAT[:3]), 1 - np.array(SUPERVISED), equal_var=False).statistic
    assert not difference.n
    assert difference.standard_error == pytest.approx(difference.mean / t)
    assert difference.bootstrap is None
    assert difference.t_interval is None


def test_the_bootstrap_interval_of_three_is_from_the_lowest_to_the_highest() -> None:
    # Of the 27 resamples one has the lowest difference three times: 3.7 %, which is more than 2.5 %.
    gaps = [-0.05, -0.01, -0.03]
    assert bootstrap_interval(gaps) == pytest.approx((-0.05, -0.01), abs=1e-12)


def test_the_bootstrap_interval_is_that_of_every_resample() -> None:
    gaps = [-0.05, -0.01, -0.03, 0.02, 0.0]
    # Of five differences all 3,125 resamples can be written down; 9,999 draws come close to their quantiles.
    means = np.array(list(itertools.product(gaps, repeat=5))).mean(axis=1)
    low, high = bootstrap_interval(gaps)
    assert (low, high) == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.002)
    assert bootstrap_interval(gaps) == (low, high)


def test_the_bootstrap_interval_of_many_differences_is_nearly_normal() -> None:
    gaps = np.random.default_rng(1).normal(0.02, 0.01, 200)
    half = 1.96 * gaps.std() / np.sqrt(200)
    low, high = bootstrap_interval(list(gaps))
    assert (low, high) == pytest.approx((gaps.mean() - half, gaps.mean() + half), abs=0.15 * half)


def test_the_t_interval_is_scipys() -> None:
    gaps = [-0.05, -0.01, -0.03]
    expected = stats.ttest_1samp(gaps, 0).confidence_interval(0.95)
    assert t_interval(gaps) == pytest.approx((expected.low, expected.high))
    assert t_interval([0.25, 0.25]) == (0.25, 0.25)


def test_the_baseline_in_the_summary_has_most_pairs_then_the_best_validation(make_run: MakeRun) -> None:
    for seed in (0, 1):
        make_run("vat", seed)
        make_run("supervised", seed, group="two seeds", test_acc=0.7, val_acc_best=0.6)
        make_run("supervised", seed, group="better validation", test_acc=0.6, val_acc_best=0.8)
    make_run("supervised", 0, group="one seed", val_acc_best=0.99)
    differences, _ = differences_to_baselines(_groups())
    assert len(differences) == 3
    (gap,) = row_differences(differences).values()
    assert gap.baseline.identity.group == "better validation"


@pytest.mark.parametrize("supervised_seeds", [(0,), (0, 1)])
def test_one_run_gives_no_standard_error(make_run: MakeRun, supervised_seeds: tuple[int, ...]) -> None:
    make_run("vat", 0, 0.95)
    for seed in supervised_seeds:
        make_run("supervised", seed, 0.9)
    ((difference,), _) = differences_to_baselines(_groups())
    assert difference.standard_error is None
    assert difference.bootstrap is None
    assert difference.mean == pytest.approx(-0.05)


@pytest.mark.parametrize(
    "change",
    [{"split_seed": 1}, {"steps": 1000}, {"num_labels": 1000}, {"num_valid": 7}, {"dataset": "svhn"}],
)
def test_nothing_to_compare_with(make_run: MakeRun, change: dict[str, object]) -> None:
    make_run("vat")
    make_run("supervised", **change)
    differences, alone = differences_to_baselines(_groups())
    assert differences == []
    assert [group.identity.algorithm for group in alone] == ["vat"]


def test_the_own_model_comes_first(make_run: MakeRun) -> None:
    make_run("vat", model="cnn")
    make_run("ladder", model="ladder_mlp")
    make_run("supervised", test_acc=0.8, model="cnn", group="supervised-cnn")
    make_run("supervised", test_acc=0.7, model="mlp", group="supervised-mlp")
    differences, _ = differences_to_baselines(_groups())
    compared = {(d.group.identity.algorithm, d.baseline.identity.model) for d in differences}
    assert compared == {("vat", "cnn"), ("ladder", "cnn"), ("ladder", "mlp")}


def test_standard_error_of_equal_gaps_is_zero(make_run: MakeRun) -> None:
    for seed, (vat, supervised) in enumerate([(0.75, 0.5), (0.8, 0.55), (0.9, 0.65)]):
        make_run("vat", seed, vat)
        make_run("supervised", seed, supervised)
    ((difference,), _) = differences_to_baselines(_groups())
    assert difference.standard_error == pytest.approx(0.0, abs=1e-15)
    assert difference.mean == pytest.approx(-0.25)
    # An interval without width would claim certainty; the rounding of the differences would give it some.
    assert (difference.bootstrap, difference.t_interval) == (None, None)


def test_seeds_that_share_a_split_are_not_independent_draws_of_it(make_run: MakeRun) -> None:
    splits = {0: 0.10, 1: 0.02, 2: 0.05}  # what the draw of the labels does to the difference
    for split, gap in splits.items():
        for seed, noise in enumerate((-0.001, 0.0, 0.001)):
            make_run("vat", seed, 0.8 + gap + noise, split_seed=split)
            make_run("supervised", seed, 0.8, split_seed=split)
    ((difference,), _) = differences_to_baselines(_groups())
    assert difference.n == 3
    assert difference.mean == pytest.approx(-np.mean(list(splits.values())))
    expected = stats.ttest_1samp([-gap for gap in splits.values()], 0).confidence_interval(0.95)
    assert difference.t_interval == pytest.approx((expected.low, expected.high))
    assert difference.bootstrap == pytest.approx((-0.10, -0.02))


def test_seeds_of_one_split_are_resampled(make_run: MakeRun) -> None:
    for seed, acc in enumerate(VAT):
        make_run("vat", seed, acc)
        make_run("supervised", seed, SUPERVISED[seed])
    ((difference,), _) = differences_to_baselines(_groups())
    assert difference.n == 4


def test_the_baseline_is_chosen_by_the_runs_that_are_compared(make_run: MakeRun) -> None:
    for seed in (0, 1):
        make_run("vat", seed, 0.9)
        make_run("supervised", seed, 0.7, group="better here", val_acc_best=0.8)
        make_run("supervised", seed, 0.6, group="better later", val_acc_best=0.7)
    # A seed that the method has not, on which the other baseline shines.
    make_run("supervised", 2, 0.99, group="better later", val_acc_best=1.0)
    (beside,) = row_differences(differences_to_baselines(_groups())[0]).values()
    assert beside.baseline.identity.group == "better here"


def test_a_difference_that_rounds_to_nothing_has_no_minus(make_run: MakeRun) -> None:
    for seed, gap in enumerate((-1e-5, 0.0)):
        make_run("vat", seed, 0.9 - gap)
        make_run("supervised", seed, 0.9)
    main(["runs", "--out", "report.md"])
    report = Path("report.md").read_text()
    assert "| +0.00 [+0.00, +0.00] n=2 |" in report
    assert "-0.00" not in report


def test_runs_in_pairs_count_and_not_splits(make_run: MakeRun) -> None:
    for split in range(3):
        for seed in range(5):
            make_run("vat", seed, 0.9, split_seed=split)
            make_run("supervised", seed, 0.7, group="all", split_seed=split, val_acc_best=0.7)
            if not split:
                make_run("supervised", seed, 0.6, group="one split", val_acc_best=0.8)
    (beside,) = row_differences(differences_to_baselines(_groups())[0]).values()
    assert (beside.baseline.identity.group, beside.n) == ("all", 3)
