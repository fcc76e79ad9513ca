"""The script that writes docs/results/seeds.md."""

from __future__ import annotations

import runpy
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from helpers.report_runs import MakeRun, make_run
from sslbench.rundir.records import RunResult

__all__ = ["make_run"]

DOCS = Path(__file__).parents[2] / "docs"
SCRIPT = DOCS / "tools" / "published_numbers.py"
ROW: dict[str, Any] = {
    "system": "Self-training",
    "data": "MNIST halves",
    "number": "model_B on A",
    "published": "96.6",
    "remark": "no test set there",
    "metric": "metrics_last:labelled/model_b_acc",
    "runs": {"algorithm": "self_training", "dataset": "mnist"},
}


def _report(*rows: dict[str, Any]) -> str:
    Path("notes").mkdir(exist_ok=True)
    Path("notes/rows.yaml").write_text(yaml.safe_dump(list(rows)))
    Path("notes/note.md").write_text("Some *prose*.\n")
    words = [
        "runs",
        "notes/rows.yaml",
        "--note",
        "notes/note.md",
        "--title",
        "Here and there",
        "--out",
        "notes/r.md",
    ]
    runpy.run_path(str(SCRIPT))["main"]([*words, "--out", "notes/r.md"])
    return Path("notes/r.md").read_text()


def _cells(report: str) -> list[str]:
    section = report.split("## Beside published numbers")[1].split("## Summary")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [cell.strip() for cell in lines[-1].strip("|").split("|")]


def test_a_row_has_mean_std_count_and_command(make_run: MakeRun) -> None:
    for seed, acc in enumerate([0.98, 0.99, 0.985]):
        make_run(
            "self_training", seed, loss=None, metrics_last={"labelled/model_b_acc": acc}, split_seed=seed
        )
    make_run("vat", 0)
    report = _report(ROW)
    assert report.startswith("# Here and there\n")
    assert "Some *prose*.\n\n## Beside published numbers" in report
    assert "../runs rows.yaml --note note.md --out r.md --title 'Here and there'\n" in report
    *cells, row, remark, command = _cells(report)
    assert cells == ["Self-training", "MNIST halves", "model_B on A", "96.6", "98.50 ± 0.50", "3"]
    assert f"\n| {row} |" in report.split("## Summary")[1]
    assert remark == "no test set there"
    assert command == "`sslbench -m algorithm=self_training seed=0,1,2`"


def test_an_accuracy_turns_into_an_error_and_what_was_typed_tells_groups_apart(
    make_run: MakeRun,
) -> None:
    for form, acc in (("a", 0.9), ("b", 0.8)):
        make_run("vat", 0, acc, group=f"vat-{form}", overrides=["algorithm=vat", f"form={form}"])
    row = ROW | {"metric": "1 - test_acc", "runs": {"algorithm": "vat", "typed": "form=b"}}
    cells = _cells(_report(row))
    assert (cells[4], cells[8]) == ("20.00 (n=1: no std)", "`sslbench algorithm=vat form=b seed=0`")
    with pytest.raises(SystemExit, match="2 groups of runs match"):
        _report(row | {"runs": {"algorithm": "vat"}})


FIELDS = {entry.name for entry in fields(RunResult)}


def test_the_rows_of_this_repository_name_what_results_have() -> None:
    rows = yaml.safe_load((DOCS / "results" / "notes" / "seeds.yaml").read_text(encoding="utf-8"))
    assert len(rows) > 20
    for row in rows:
        assert set(row) == set(ROW)
        assert set(row["runs"]) <= {*FIELDS, "typed"}
        assert row["metric"].removeprefix("1 -").strip().partition(":")[0] in FIELDS
