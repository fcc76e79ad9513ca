from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from helpers.report_runs import MakeRun
from sslbench.cli.report_command import main

ROW: dict[str, Any] = {
    "system": "Self-training",
    "data": "MNIST halves",
    "number": "model_B on A",
    "published": "96.6",
    "remark": "no test set there",
    "metric": "metrics_last:labelled/model_b_acc",
    "runs": {"algorithm": "self_training", "dataset": "mnist"},
}


def beside(*rows: Any) -> str:
    Path("rows.yaml").write_text(yaml.safe_dump(list(rows)))
    main(["runs", "--out", "report.md", "--beside", "rows.yaml"])
    return Path("report.md").read_text()


def make_halves(make_run: MakeRun) -> None:
    for seed, acc in enumerate([0.98, 0.99, 0.985]):
        make_run("self_training", seed, loss=None, metrics_last={"labelled/model_b_acc": acc})
    make_run("vat", 0)


def line_of(report: str, system: str) -> list[str]:
    section = report.split("## Beside published numbers")[1].split("## Summary")[0]
    (line,) = [line for line in section.splitlines() if line.startswith(f"| {system}")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_row_has_mean_spread_count_and_command(make_run: MakeRun) -> None:
    make_halves(make_run)
    cells = line_of(beside(ROW), "Self-training")
    assert cells[:6] == ["Self-training", "MNIST halves", "model_B on A", "96.6", "98.50 ± 0.50", "3"]
    assert cells[7] == "no test set there"
    assert cells[8] == "`sslbench -m algorithm=self_training seed=0,1,2`"


def test_an_accuracy_turns_into_an_error(make_run: MakeRun) -> None:
    make_halves(make_run)
    row = ROW | {"metric": "1 - test_acc", "runs": {"algorithm": "vat"}}
    assert line_of(beside(row), "Self-training")[4] == "10.00 (n=1: no spread)"


def test_what_was_typed_and_a_remark_of_several_lines_stay_in_their_cells(make_run: MakeRun) -> None:
    make_run("vat", 0, overrides=["algorithm=vat", "logger.tags=[`a`,<b>]"])
    row = ROW | {"metric": "test_acc", "runs": {"algorithm": "vat"}, "remark": "one\ntwo\u2028three"}
    cells = line_of(beside(row), "Self-training")
    assert cells[7] == "one two three"
    assert cells[8] == "<code>sslbench algorithm=vat 'logger.tags=\\[\\`a\\`,&lt;b&gt;\\]' seed=0</code>"


def test_groups_are_told_apart_by_what_was_typed(make_run: MakeRun) -> None:
    for form in ("a", "b"):
        make_run("vat", 0, group=f"vat-{form}", overrides=["algorithm=vat", f"form={form}"])
    row = ROW | {"metric": "test_acc", "runs": {"algorithm": "vat", "typed": "form=b"}}
    assert line_of(beside(row), "Self-training")[8] == "`sslbench algorithm=vat form=b seed=0`"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([ROW | {"runs": {"algorithm": "ict"}}], "0 groups of runs match"),
        ([ROW | {"runs": {"dataset": "mnist"}}], "2 groups of runs match"),
        ([ROW | {"metric": "metrics_last:nothing"}], "has no number 'metrics_last:nothing'"),
        ([ROW | {"metric": "steps"}], "which is no share"),
        ([ROW | {"runs": {"colour": "red"}}], "must name fields of result.json"),
        ([ROW | {"published": 96.6}], "'published' must be text"),
        ([ROW | {"runs": {"typed": 5}}], "'typed' must be a word of the command, or a list"),
        ([ROW | {"runs": {"typed": [5]}}], "'typed' must be a word of the command, or a list"),
        ([ROW | {"runs": {"typed": None}}], "'typed' must be a word of the command, or a list"),
        ([{"system": "x"}], "must have exactly the keys"),
        (["x"], "must have exactly the keys"),
        ([], "must be a list of rows"),
    ],
)
def test_a_row_that_fits_nothing_is_one_line(
    rows: list[Any], message: str, make_run: MakeRun, capsys: pytest.CaptureFixture[str]
) -> None:
    make_halves(make_run)
    with pytest.raises(SystemExit):
        beside(*rows)
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not Path("report.md").exists()


@pytest.mark.parametrize("content", ["- {a: [", "- {published: 2024-13-45}", "- \x00"])
def test_broken_yaml_is_one_line(content: str, make_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    make_run("vat", 0)
    Path("rows.yaml").write_text(content)
    with pytest.raises(SystemExit):
        main(["runs", "--out", "report.md", "--beside", "rows.yaml"])
    error = capsys.readouterr().err
    assert "rows.yaml is not valid YAML" in error
    assert error.count("\n") == 1
