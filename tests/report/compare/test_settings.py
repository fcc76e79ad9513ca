"""What tells rows apart is worked out from configurations as runs and sweeps really write them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from helpers.report_runs import MakeRun
from sslbench.cli.report_command import main
from sslbench.config import saved
from sslbench.config.schema import Settings
from sslbench.report.compare.comparison import Comparison, compare
from sslbench.report.compare.settings import _flattened
from sslbench.report.figures.palette import labels
from sslbench.report.read.find import find_runs
from sslbench.sweep.planned_run import PlannedRun, write_plan

MakeSettings = Callable[..., Settings]
Finish = Callable[..., Path]


@pytest.fixture(scope="module")
def composed() -> dict[tuple[str, ...], Settings]:
    """The configurations that tests of this file have composed, which takes longer than comparing them."""
    return {}


@pytest.fixture
def finish(make_run: MakeRun, settings_of: MakeSettings, composed: dict[tuple[str, ...], Settings]) -> Finish:
    """A finished run of the shipped configuration with these overrides, with its ``config.yaml``."""

    def write(*overrides: str, test_acc: float = 0.9) -> Path:
        if overrides not in composed:
            composed[overrides] = settings_of(*overrides)
        settings = composed[overrides]
        folder = make_run(test_acc=test_acc, **settings.summary())
        (folder / "config.yaml").write_text(saved.save(settings))
        return folder

    return write


def _comparison() -> Comparison:
    return compare(find_runs([Path("runs")]))


def _settings() -> list[str]:
    """Of each row, best first."""
    return [group.settings for group in _comparison().groups]


def _plan(*planned: Settings) -> Path:
    """The plan of a sweep below ``runs/``."""
    sweep = Path("runs/sweeps/today")
    sweep.mkdir(parents=True)
    write_plan(sweep, [PlannedRun(run, run.directory(), run.summary()) for run in planned])
    return sweep / "cells.jsonl"


def _edit(folder: Path, **changes: Any) -> None:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **changes}))


def test_a_sweep_over_a_rate(finish: Finish) -> None:
    for place, rate in enumerate(("1e-4", "1e-3", "0.01")):
        for seed in (0, 1):
            finish("algorithm=vat", f"optimizer.lr={rate}", f"seed={seed}", test_acc=0.9 - place / 10)
    assert _settings() == ["lr=0.0001", "lr=0.001", "lr=0.01"]


def test_rows_that_their_columns_tell_apart_have_none(finish: Finish) -> None:
    # The default weights of a method differ from distance to distance, and the methods' from each other.
    finish("algorithm=supervised")
    for algorithm in ("pi_model", "vat", "mixmatch"):
        for loss in ("mse", "kl"):
            for seed in (0, 1):
                finish(f"algorithm={algorithm}", f"loss={loss}", f"seed={seed}", f"split_seed={seed}")
    finish("algorithm=vat", "num_labels=30")
    finish("algorithm=vat", "steps=9")
    finish("algorithm=vat", "num_valid=60")
    assert set(_settings()) == {""}


def test_where_a_run_happened_is_no_setting(finish: Finish) -> None:
    one, other = finish("algorithm=vat"), finish("algorithm=pi_model", test_acc=0.8)
    assert _settings() == ["", ""]
    _edit(one, device="cuda", threads=3, output_root="/elsewhere", data_root="/data", compile=True)
    _edit(other, resume="x", logger={"_target_": "y"}, checkpoint_every="5s", retry_failed=True)
    assert _settings() == ["", ""]


def test_a_setting_of_the_run_counts_between_methods(finish: Finish) -> None:
    finish("algorithm=vat", "batch.labelled=60")
    finish("algorithm=supervised", test_acc=0.5)
    assert _settings() == ["batch.labelled=60", "batch.labelled=20"]


def test_a_setting_of_a_method_counts_within_the_method(finish: Finish) -> None:
    finish("algorithm=vat", "algorithm.weight=2")
    finish("algorithm=vat", test_acc=0.8)
    finish("algorithm=mean_teacher", test_acc=0.7)
    weight = saved.load(Path(_comparison().groups[1].runs[0].folder) / "config.yaml").algorithm["weight"]
    assert _settings() == ["weight=2", f"weight={weight}", ""]


def test_operations_count_between_methods_with_strong_views(finish: Finish) -> None:
    finish("algorithm=fixmatch", "dataset.images.operations.rotate=null")
    finish("algorithm=uda", test_acc=0.8)
    finish("algorithm=supervised", test_acc=0.7)
    assert _settings() == ["", "images.operations.rotate=[-15, 15]", ""]


def test_another_optimizer_is_named_and_not_taken_apart(finish: Finish) -> None:
    finish("algorithm=vat", "optimizer=sgd")
    finish("algorithm=vat", test_acc=0.8)
    finish("algorithm=vat", "optimizer.lr=0.5", test_acc=0.7)
    assert _settings() == ["optimizer=sgd", "lr=0.001, optimizer=adam", "lr=0.5, optimizer=adam"]


def test_what_only_one_has_it_alone_shows(finish: Finish) -> None:
    finish("algorithm=vat", "+optimizer.amsgrad=true")
    finish("algorithm=vat", test_acc=0.8)
    assert _settings() == ["amsgrad=true", ""]


def test_equal_ends_are_whole_keys(finish: Finish) -> None:
    one, other = finish("algorithm=vat"), finish("algorithm=vat", "optimizer.lr=0.1", test_acc=0.8)
    saved = yaml.safe_load((one / "config.yaml").read_text())
    _edit(one, schedule={**saved["schedule"], "lr": 1})
    assert _settings() == ["optimizer.lr=0.001, schedule.lr=1", "optimizer.lr=0.1"]
    assert other.is_dir()


def test_lists_and_nothing_are_written_as_they_are_typed(finish: Finish) -> None:
    finish("algorithm=vat", "model=mlp", "model.hidden=[8,4]")
    finish("algorithm=vat", "model=mlp", "model.hidden=[8]", test_acc=0.8)
    assert _settings() == ["hidden=[8, 4]", "hidden=[8]"]


def test_a_cell_that_never_began_shows_what_was_planned(finish: Finish, settings_of: MakeSettings) -> None:
    finish("algorithm=vat")
    planned = [settings_of("algorithm=vat", "optimizer.lr=0.5", f"seed={seed}") for seed in (0, 1)]
    _plan(*planned)
    groups = _comparison().groups
    assert [(group.settings, len(group.runs), len(group.missing)) for group in groups] == [
        ("lr=0.001", 1, 0),
        ("lr=0.5", 0, 2),
    ]
    main(["runs", "--table", "table.csv", "--csv", "runs.csv"])
    assert Path("table.csv").read_text().count("lr=0.5") == 1
    assert Path("runs.csv").read_text().count("lr=0.5") == 2


def test_a_plan_without_settings_is_a_plan(finish: Finish, settings_of: MakeSettings) -> None:
    finish("algorithm=vat")
    plan = _plan(settings_of("algorithm=vat", "optimizer.lr=0.5"))
    line = json.loads(plan.read_text())
    del line["settings"]
    plan.write_text(json.dumps(line) + "\n")
    assert _settings() == ["", ""]
    assert _comparison().warnings == []
    plan.write_text(json.dumps({**line, "settings": [1]}) + "\n")
    assert _comparison().warnings == [
        "runs/sweeps/today/cells.jsonl, line 1: 'settings' must be a valid dictionary, not [1]"
    ]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "is not valid YAML"),
        ("- 1\n", "is not a run's configuration"),
        ("\xff\xfe", "is not UTF-8 text"),
        ("!!python/object/apply:os.system [echo]\n", "is not valid YAML"),
    ],
)
def test_a_damaged_configuration_is_a_warning(finish: Finish, content: str, reason: str) -> None:
    damaged = finish("algorithm=vat")
    finish("algorithm=vat", "optimizer.lr=0.5", test_acc=0.8)
    finish("algorithm=vat", "optimizer.lr=0.7", test_acc=0.7)
    (damaged / "config.yaml").write_bytes(content.encode("latin-1"))
    found = _comparison()
    assert [group.settings for group in found.groups] == ["", "lr=0.5", "lr=0.7"]
    [warning] = found.warnings
    assert warning.startswith(f"{damaged}/config.yaml {reason}")
    assert warning.endswith("its settings are not compared")


@pytest.mark.parametrize(
    "content", ["{}", "choices: 3", "optimizer: 3\nalgorithm: [1]\ndataset: x", "choices: {optimizer: [1]}"]
)
def test_a_foreign_configuration_breaks_nothing(finish: Finish, content: str) -> None:
    (finish("algorithm=vat") / "config.yaml").write_text(content)
    finish("algorithm=vat", "optimizer.lr=0.5", test_acc=0.8)
    finish("algorithm=vat", "optimizer.lr=0.7", test_acc=0.7)
    main(["runs", "--html", "report.html", "--out", "report.md", "--latex", "report.tex"])
    found = _comparison()
    assert [group.settings for group in found.groups] == ["", "lr=0.5", "lr=0.7"]
    [warning] = found.warnings
    assert warning.endswith("config.yaml is not a run's configuration; its settings are not compared")


@pytest.mark.parametrize("depth", [400, 20_000])
def test_a_nested_value_without_end_breaks_nothing(
    depth: int, finish: Finish, settings_of: MakeSettings
) -> None:
    finish("algorithm=vat")
    plan = _plan(settings_of("algorithm=vat", "optimizer.lr=0.5"))
    model = json.dumps(json.loads(plan.read_text())["settings"]["model"])
    nested = depth * '{"a":' + "1" + depth * "}"
    plan.write_text(plan.read_text().replace(f'"model": {model}', f'"model": {nested}'))
    main(["runs", "--out", "report.md"])
    assert Path("report.md").stat().st_size < 20_000
    # What is nested too deeply for JSON is a warning, and its run unknown.
    assert len(_settings()) == (1 if depth == 20_000 else 2)


def test_what_is_nested_too_deeply_is_not_compared(finish: Finish) -> None:
    found = yaml.safe_load((finish("algorithm=vat") / "config.yaml").read_text())
    (group,) = _comparison().groups
    assert _flattened(group, found) is not None
    for _ in range(5000):
        found["model"] = {"a": found["model"]}
    assert _flattened(group, found) is None


def test_a_run_without_a_configuration_is_no_warning(finish: Finish) -> None:
    (finish("algorithm=vat") / "config.yaml").unlink()
    finish("algorithm=vat", "optimizer.lr=0.5", test_acc=0.8)
    assert _settings() == ["", ""]
    assert _comparison().warnings == []


def test_the_second_run_of_a_group_speaks_for_the_first(finish: Finish) -> None:
    first = finish("algorithm=vat")
    finish("algorithm=vat", "seed=1")
    finish("algorithm=vat", "optimizer.lr=0.5", test_acc=0.8)
    (first / "config.yaml").unlink()
    assert _settings() == ["lr=0.001", "lr=0.5"]


def test_every_form_shows_them(finish: Finish, capsys: pytest.CaptureFixture[str]) -> None:
    for rate, acc in (("0.001", 0.9), ("0.01", 0.8)):
        for algorithm in ("vat", "supervised"):
            finish(f"algorithm={algorithm}", f"optimizer.lr={rate}", test_acc=acc)
    main(["runs", "--html", "page.html", "--out", "report.md", "--latex", "t.tex", "--table", "t.csv"])
    shown = capsys.readouterr().out
    assert shown.count("lr=0.01 ") == 2
    assert Path("page.html").read_text().count("<td>lr=0.01</td>") >= 4  # summary and differences
    report = Path("report.md").read_text()
    assert "| settings |" in report
    assert "| baseline settings |" in report
    assert "vat, kl, mlp, lr=0.01 (group" in report
    assert Path("t.tex").read_text().count("lr=0.01") == 2
    assert Path("t.csv").read_text().count(",lr=0.01,") == 2
    assert labels(_comparison().groups)[:2] == ["supervised, lr=0.001", "vat (kl), lr=0.001"]


def test_a_row_names_its_baseline_where_there_are_several(finish: Finish) -> None:
    finish("algorithm=supervised", test_acc=0.5)
    finish("algorithm=vat")
    main(["runs", "--out", "report.md"])
    assert "(#2)" not in Path("report.md").read_text()
    finish("algorithm=supervised", "optimizer.lr=0.01", test_acc=0.4)
    main(["runs", "--out", "report.md"])
    # The one with the better validation accuracy.
    assert "| 50.00 (n=1) (#2) |" in Path("report.md").read_text()
    main(["runs", "--latex", "table.tex"])
    assert r"50.00 (n=1) (\#2) &" in Path("table.tex").read_text()
    assert r"\# & rank &" in Path("table.tex").read_text()


def test_nothing_differs_and_nothing_is_shown(finish: Finish) -> None:
    finish("algorithm=vat")
    finish("algorithm=supervised", test_acc=0.5)
    main(["runs", "--html", "page.html", "--out", "report.md", "--latex", "t.tex"])
    for name in ("page.html", "report.md", "t.tex"):
        assert "settings" not in Path(name).read_text().replace("baseline settings", "settings")


def test_values_are_compared_before_they_are_shortened(finish: Finish) -> None:
    one, other = finish("algorithm=vat"), finish("algorithm=vat", "optimizer.eps=1e-7", test_acc=0.8)
    for folder, middle in ((one, "x"), (other, "y")):
        _edit(folder, precision=f"{100 * 'a'}{middle}{100 * 'b'}", batch={"labelled": 1, "unlabelled": "1"})
    _edit(other, batch={"labelled": 1, "unlabelled": 1})
    for found in _settings():
        assert "precision=aaa" in found
        assert "batch.unlabelled=1" in found
        assert "batch.labelled" not in found
