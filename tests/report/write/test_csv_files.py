from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from helpers.report_runs import MakeRun, identity, write_status
from sslbench.cli.report_command import main


def rows_of(option: str, key: str) -> dict[str, dict[str, str]]:
    """The rows of the file that `option` writes, by one of their fields."""
    main(["runs", option, "table.csv"])
    with Path("table.csv").open(newline="", encoding="utf-8") as file:
        return {row[key]: row for row in csv.DictReader(file)}


@pytest.fixture
def runs(make_run: MakeRun) -> MakeRun:
    """Two algorithms, of which one misses a seed, and a third without any result."""
    for seed in range(3):
        make_run("vat", seed, 0.95)
        make_run("supervised", seed, 0.9)
    write_status("dead", "failed", identity(seed=3), error="loss is nan at step 3")
    write_status("ict", "interrupted", identity("ict", 0))
    return make_run


def test_runs_that_are_missing_have_a_row(runs: MakeRun) -> None:
    rows = rows_of("--csv", "folder")
    statuses = [row["status"] for row in rows.values()]
    assert [statuses.count(status) for status in ("finished", "failed", "interrupted")] == [6, 1, 1]
    dead = rows["runs/dead"]
    assert (dead["algorithm"], dead["seed"], dead["test_acc"]) == ("vat", "3", "")
    assert dead["error"] == "loss is nan at step 3"
    assert {row["seed"] for row in rows.values()} == {"0", "1", "2", "3"}


def test_bins_are_json(make_run: MakeRun) -> None:
    bins = {"counts": [0, 3], "confidence": [None, 0.9], "accuracy": [None, 1]}
    make_run("vat", test_calibration=bins)
    (row,) = rows_of("--csv", "folder").values()
    assert json.loads(row["test_calibration"]) == bins


def test_a_group_without_results_has_empty_cells(runs: MakeRun) -> None:
    rows = rows_of("--table", "algorithm")
    assert list(rows) == ["vat", "supervised", "ict"]
    vat, ict = rows["vat"], rows["ict"]
    assert (vat["seeds"], vat["seeds_missing"], vat["rank"]) == ("3", "1", "1")
    assert vat["missing"] == "seed 3 failed: loss is nan at step 3"
    assert rows["supervised"]["difference"] == ""
    assert (ict["seeds"], ict["missing"]) == ("0", "seed 0 interrupted")
    assert (ict["rank"], ict["test_error_mean"], ict["test_error_std"]) == ("", "", "")


def test_a_failed_twin_of_a_finished_run_does_not_count(runs: MakeRun) -> None:
    write_status("again", "failed", identity(seed=0))
    counted = {folder: row["counted"] for folder, row in rows_of("--csv", "folder").items()}
    assert counted.pop("runs/again") == "False"
    assert set(counted.values()) == {"True"}


def test_a_text_that_a_spreadsheet_would_compute_is_quoted(make_run: MakeRun) -> None:
    make_run("=1+1", 0, model="plain, with a comma")
    (row,) = rows_of("--csv", "folder").values()
    assert (row["algorithm"], row["model"]) == ("'=1+1", "plain, with a comma")
