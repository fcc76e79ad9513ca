"""The baseline of an algorithm is labelled-only and has the same views, or is the one that was asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from helpers.report_runs import CONFIG, MakeRun
from sslbench.cli.report_command import main
from sslbench.errors import UserError
from sslbench.report.compare.comparison import Comparison, compare
from sslbench.report.read.find import find_runs

LABELLED_ONLY = {"ignores": ["batch.unlabelled"]}
STRONG = {"strong": {"_target_": "some.View"}}


@pytest.fixture
def finish(make_run: MakeRun) -> MakeRun:
    """A finished run whose configuration has this for its algorithm."""

    def write(name: str, test_acc: float, node: dict[str, object], **changes: object) -> Path:
        folder = make_run(name, test_acc=test_acc, loss=None, **changes)
        (folder / "config.yaml").write_text(yaml.safe_dump({**yaml.safe_load(CONFIG), "algorithm": node}))
        return folder

    return write


def _compared(baseline: str | None = None) -> Comparison:
    return compare(find_runs([Path("runs")]), baseline)


def _pairs(baseline: str | None = None) -> set[tuple[str, str]]:
    return {
        (difference.group.identity.algorithm, difference.baseline.identity.algorithm)
        for difference in _compared(baseline).differences
    }


def test_the_baseline_has_the_same_views(finish: MakeRun) -> None:
    finish("mine", 0.9, STRONG)
    finish("other", 0.8, {"strong": None})
    finish("plain", 0.5, {**LABELLED_ONLY, "strong": None})
    finish("augmented", 0.7, {**LABELLED_ONLY, **STRONG})
    assert _pairs() == {("mine", "augmented"), ("other", "plain")}


def test_where_there_is_none_the_others_count(finish: MakeRun) -> None:
    finish("mine", 0.9, STRONG)
    plain = finish("plain", 0.5, LABELLED_ONLY)
    assert _pairs() == {("mine", "plain")}
    (plain / "result.json").unlink()
    assert [group.identity.algorithm for group in _compared().unmatched] == ["mine"]


def test_the_model_counts_before_the_views(finish: MakeRun) -> None:
    finish("mine", 0.9, STRONG, model="cnn")
    finish("plain", 0.5, LABELLED_ONLY, model="cnn")
    finish("augmented", 0.7, {**LABELLED_ONLY, **STRONG}, model="mlp")
    assert _pairs() == {("mine", "plain")}


def test_another_that_ignores_something_is_no_baseline(finish: MakeRun) -> None:
    finish("mine", 0.9, {"ignores": ["model"]})
    finish("plain", 0.5, LABELLED_ONLY)
    assert _pairs() == {("mine", "plain")}


def test_supervised_is_one_without_a_configuration(make_run: MakeRun) -> None:
    make_run("vat")
    make_run("supervised")
    assert _pairs() == {("vat", "supervised")}


def test_of_several_the_one_that_validates_best_stands_in_the_row(finish: MakeRun) -> None:
    finish("mine", 0.9, {})
    finish("plain", 0.5, LABELLED_ONLY)
    finish("mixed", 0.6, LABELLED_ONLY)
    compared = _compared()
    assert _pairs() == {("mine", "plain"), ("mine", "mixed")}
    (beside,) = compared.row_differences.values()
    assert beside.baseline.identity.algorithm == "mixed"


def test_any_algorithm_may_be_asked_for(finish: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    finish("mine", 0.9, STRONG)
    finish("plain", 0.5, LABELLED_ONLY)
    finish("other", 0.8, {})
    assert _pairs("other") == {("mine", "other"), ("plain", "other")}
    main(["runs", "--baseline", "other", "--out", "report.md"])
    assert "--baseline other" in Path("report.md").read_text()
    capsys.readouterr()


def test_an_unknown_one_is_refused(finish: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    finish("plain", 0.5, LABELLED_ONLY)
    with pytest.raises(UserError, match=r"^--baseline plane is no algorithm .*'plain'\?: plain$"):
        _compared("plane")
    with pytest.raises(SystemExit, match="1"):
        main(["runs", "--baseline", "plane"])
    assert capsys.readouterr().err.count("\n") == 1
