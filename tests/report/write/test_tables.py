from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from helpers.report_runs import MakeRun, identity, write_status
from sslbench.cli.report_command import main

VAT, SUPERVISED = (0.951, 0.957, 0.943), (0.912, 0.921, 0.899)


@pytest.fixture
def runs(make_run: MakeRun) -> MakeRun:
    """Two methods, of which one misses a seed, and a third without any result."""
    for seed, (vat, supervised) in enumerate(zip(VAT, SUPERVISED, strict=True)):
        make_run("vat", seed, vat)
        make_run("supervised", seed, supervised)
    write_status("dead", "failed", identity(seed=3), error="loss is nan at step 3")
    write_status("ict", "interrupted", identity("ict", 0))
    return make_run


def test_one_row_a_run_with_those_that_are_missing(runs: MakeRun) -> None:
    main(["runs", "--csv", "runs.csv"])
    table = pd.read_csv("runs.csv", dtype=str, keep_default_na=False).set_index("folder")
    assert table["status"].value_counts().to_dict() == {"finished": 6, "failed": 1, "interrupted": 1}
    dead = table.loc["runs/dead"]
    assert (dead["algorithm"], dead["seed"], dead["test_acc"]) == ("vat", "3", "")
    assert dead["error"] == "loss is nan at step 3"
    assert set(table["seed"]) == {"0", "1", "2", "3"}  # no 3.0


def test_bins_are_json_in_the_csv(make_run: MakeRun) -> None:
    bins = {"counts": [0, 3], "confidence": [None, 0.9], "accuracy": [None, 1]}
    make_run("vat", test_calibration=bins)
    main(["runs", "--csv", "runs.csv"])
    (text,) = pd.read_csv("runs.csv")["test_calibration"]
    assert json.loads(text) == bins


def test_one_row_a_group(runs: MakeRun) -> None:
    main(["runs", "--table", "groups.csv"])
    table = pd.read_csv("groups.csv").set_index("algorithm")
    assert list(table.index) == ["vat", "supervised", "ict"]
    error = 1 - np.array(VAT)
    vat = table.loc["vat"]
    assert vat["test_error_mean"] == pytest.approx(error.mean())
    assert vat["test_error_std"] == pytest.approx(error.std(ddof=1))
    assert (vat["seeds"], vat["seeds_missing"], vat["rank"], vat["pairs"]) == (3, 1, 1, 3)
    assert vat["missing"] == "seed 3 failed: loss is nan at step 3"
    gaps = np.array(SUPERVISED) - np.array(VAT)
    assert vat["difference"] == pytest.approx(gaps.mean())
    assert (vat["bootstrap_low"], vat["bootstrap_high"]) == pytest.approx((gaps.min(), gaps.max()))
    assert vat["t_interval_low"] < gaps.min()
    assert vat["supervised_test_error_mean"] == pytest.approx(1 - np.mean(SUPERVISED))
    assert np.isnan(table.loc["supervised", "difference"])
    assert (table.loc["ict", "seeds"], table.loc["ict", "missing"]) == (0, "seed 0 interrupted")
    assert np.isnan(table.loc["ict", "rank"])
    assert np.isnan(table.loc["ict", "test_error_mean"])


def test_latex(runs: MakeRun) -> None:
    runs("a_b & 50% $x$ #1 {~^\\}", 0, group="odd")
    main(["runs", "--latex", "table.tex"])
    text = Path("table.tex").read_text()
    assert text.startswith("% packages: booktabs;")
    for rule in (
        r"\toprule",
        r"\midrule",
        r"\bottomrule",
        r"\begin{tabular}{rrllrrrrrr}",
        r"\end{tabular}",
    ):
        assert rule in text
    error = 100 * (1 - np.array(VAT))
    assert f"{error.mean():.2f} ± {error.std(ddof=1):.2f}" in text
    assert "3 of 4 (failed)" in text
    assert r"test error \%" in text
    assert r"a\_b \& 50\% \$x\$ \#1 \{\textasciitilde \textasciicircum \textbackslash \}" in text
    # As many cells in each row as in the head.
    rows = [line.replace(r"\&", "") for line in text.splitlines() if line.endswith(r"\\")]
    assert {row.count("&") for row in rows} == {9}
    gaps = 100 * (np.array(SUPERVISED) - np.array(VAT))
    low, high = stats.ttest_1samp(gaps, 0).confidence_interval(0.95)
    assert f"& [$-${abs(low):.2f}, $-${abs(high):.2f}] &" in text
    assert "% all rows: dataset mnist, labels 100, validation images 1000, model mlp, steps 2000" in text
    assert r"\midrule" not in text.partition(r"\midrule")[2]
    assert "% difference [95 %]: bootstrap over n pairs. With few pairs the bootstrap interval is too" in text
    assert "% All rows with several seeds: one draw of the labels" in text


def test_a_failed_twin_of_a_finished_run_does_not_count(runs: MakeRun) -> None:
    write_status("again", "failed", identity(seed=0))
    main(["runs", "--csv", "runs.csv"])
    table = pd.read_csv("runs.csv").set_index("folder")
    assert not table.loc["runs/again", "counted"]
    assert table.drop("runs/again")["counted"].all()


@pytest.mark.parametrize("methods", [1, 25])
def test_a_rule_between_tasks_in_latex(make_run: MakeRun, methods: int) -> None:
    for place in range(methods):
        make_run(f"method_{place}", 0, 0.9)
        make_run(f"method_{place}", 0, 0.9, steps=500, group=f"short {place}")
    main(["runs", "--latex", "table.tex"])
    lines = Path("table.tex").read_text().splitlines()
    (rule,) = [
        place for place, line in enumerate(lines) if line == r"\midrule" and "method" in lines[place - 1]
    ]
    assert "& 500 &" in lines[rule - 1]
    assert "& 2000 &" in lines[rule + 1]


def test_a_long_table_breaks_over_pages(make_run: MakeRun) -> None:
    for number in range(41):
        make_run(f"method_{number}")
    main(["runs", "--latex", "table.tex"])
    text = Path("table.tex").read_text()
    assert text.startswith("% packages: booktabs, longtable;")
    assert r"\begin{longtable}" in text
