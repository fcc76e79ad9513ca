from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from helpers.report_runs import MakeRun
from sslbench.cli.report_command import main
from sslbench.report.compare.comparison import Comparison, compare
from sslbench.report.read.conflicts import without_conflicts
from sslbench.report.read.find import find_runs


def _compared() -> Comparison:
    return compare(find_runs([Path("runs")]))


def _twin(folder: Path, **changes: Any) -> None:
    """The same run in another folder, with another outcome."""
    other = folder.with_name("twin")
    other.mkdir()
    result = json.loads((folder / "result.json").read_text())
    (other / "result.json").write_text(json.dumps({**result, **changes}))


@pytest.mark.parametrize("change", [{"steps": 500}, {"precision": "bf16"}, {"model": "cnn"}])
def test_a_group_differs_in_its_seeds_only(change: dict[str, Any], make_run: MakeRun) -> None:
    make_run(seed=0)
    make_run(seed=1, **change)
    make_run("supervised", seed=0)
    found = _compared()
    assert [run.algorithm for run in found.runs] == ["supervised"]
    assert [run.status for run in found.missing] == ["in conflict", "in conflict"]
    (field,) = change
    (warning,) = found.warnings
    assert f"has {field} " in warning
    assert "a group differs in its seeds only" in warning


def test_nothing_says_which_of_two_outcomes_is_right(make_run: MakeRun) -> None:
    first = make_run(seed=0, test_acc=0.9)
    _twin(first, test_acc=0.95)
    make_run(seed=1, test_acc=0.8)
    found = _compared()
    assert [run.test_acc for run in found.runs] == [0.8]
    (group,) = found.groups
    assert group.seeds == "1 of 2"
    assert re.search(
        "has test_acc 0.95 in runs/twin and 0.9 in runs/.*, though they have the same",
        found.warnings[0],
    )


def test_the_rest_is_reported(make_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    _twin(make_run(seed=0, test_acc=0.9), test_acc=0.95)
    make_run("supervised", seed=0, test_acc=0.7)
    main(["runs", "--html", "page.html", "--out", "r.md", "--latex", "t.tex", "--csv", "r.csv"])
    out, err = capsys.readouterr()
    assert "30.00 (n=1: no std)" in out
    assert err.count("warning: ") == 1
    for written in ("page.html", "r.md", "r.csv"):
        assert "in conflict" in Path(written).read_text()


def test_without_a_conflict_nothing_is_left_out(make_run: MakeRun) -> None:
    for seed in (0, 1):
        make_run(seed=seed)
    make_run("supervised", split_seed=1)
    runs = find_runs([Path("runs")]).runs
    assert without_conflicts(runs) == (runs, [], [])


def test_one_draw_of_the_labels_is_one_split(make_run: MakeRun) -> None:
    make_run(seed=0)
    make_run(seed=1, split_hash="f" * 64)
    make_run("supervised", seed=0)
    found = _compared()
    assert [run.algorithm for run in found.runs] == ["supervised"]
    (warning,) = found.warnings
    assert "with the same split_seed: their data are not the same" in warning
