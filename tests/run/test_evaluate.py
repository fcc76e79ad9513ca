"""Finished runs, evaluated again: those of before too, and none on other data than its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sslbench.cli import eval_command
from sslbench.report.read.find import find_runs

Sslbench = Callable[..., int]
Capture = pytest.CaptureFixture[str]
BEFORE = Path(__file__).parents[1] / "fixtures" / "version_1"
TINY = ["model=mlp", "model.hidden=[4]", "steps=4", "eval_every=2", "logger=none", "device=cpu", "threads=1"]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """The runs of before, and their data file where they look for it."""
    folder = tmp_path / "runs"
    shutil.copytree(BEFORE, folder)
    config_yaml = folder / "npz" / "config.yaml"
    config_yaml.write_text(config_yaml.read_text().replace("/data/tiny.npz", str(folder / "tiny.npz")))
    return folder


def evaluated(folder: Path) -> int:
    with pytest.raises(SystemExit) as stop:
        eval_command.main([str(folder)])
    if isinstance(stop.value.code, str):
        print(stop.value.code)
        return 1
    return int(stop.value.code or 0)


@pytest.mark.parametrize("name", ["digits", "npz"])
def test_a_run_of_before_evaluates_to_its_result(name: str, runs: Path, capfd: Capture) -> None:
    assert evaluated(runs / name) == 0
    assert "\nequal to result.json\n" in capfd.readouterr().out


def test_runs_of_before_are_reported(runs: Path) -> None:
    found = find_runs([runs])
    assert sorted(run.run_id for run in found.runs) == [
        "pi_model-mse-digits-20-s0-81359486",
        "supervised-npz-12-s0-ec8685b2",
    ]
    assert not found.warnings


def changed(file: Path) -> None:
    with np.load(file) as arrays:
        content = {**arrays, "x_test": arrays["x_test"] ^ 1}
    np.savez_compressed(file, **content)


def test_a_file_of_other_content_is_refused(
    sslbench: Sslbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    data = tmp_path / "tiny.npz"
    shutil.copy(BEFORE / "tiny.npz", data)
    typed = [*TINY, "dataset=npz", "dataset.path=tiny.npz", "algorithm=supervised", "num_valid=10"]
    assert sslbench(*typed, "run_dir=run") == 0
    assert evaluated(tmp_path / "run") == 0
    changed(data)
    (tmp_path / "run" / "result.json").rename("result.json")
    capfd.readouterr()
    assert sslbench("resume=run") == 1
    [line] = capfd.readouterr().err.splitlines()
    assert f"dataset.path={data} is not the file that this run began with" in line
    Path("result.json").rename(tmp_path / "run" / "result.json")
    assert evaluated(tmp_path / "run") == 1
    [line] = capfd.readouterr().out.splitlines()
    assert line.startswith(f"sslbench-eval: dataset.path={data} is not the file that this run began with")
    assert sslbench(*typed, "run_dir=run") == 1
    assert "another configuration (dataset.sha256 is " in capfd.readouterr().err
    shutil.copy(BEFORE / "tiny.npz", data)
    assert evaluated(tmp_path / "run") == 0
