"""``resume=RUN_DIR``, by the command itself."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sslbench.config import saved
from sslbench.engine import step as engine_step

Sslbench = Callable[..., int]
TINY = ["model=mlp", "model.hidden=[16]", "steps=8", "eval_every=4", "log_every=2", "device=cpu", "threads=1"]


def stopped(sslbench: Sslbench, monkeypatch: pytest.MonkeyPatch, *words: str, at: int = 5) -> Path:
    """Begin a run that is asked to end in its step `at`; returns its folder."""
    step, steps = engine_step.training_step, []

    def ask(*arguments: Any) -> Any:
        steps.append(1)
        if len(steps) == at:
            signal.raise_signal(signal.SIGTERM)
        return step(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(engine_step, "training_step", ask)
        assert sslbench(*TINY, *words) == 143
    [folder] = [path.parent for path in Path().rglob("status.json")]
    assert json.loads((folder / "status.json").read_text())["status"] == "interrupted"
    return folder


def result_of(folder: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return {key: value for key, value in result.items() if key not in ("train_seconds", "steps_per_second")}


def plain_curves(folder: Path) -> list[dict[str, Any]]:
    points = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [{k: v for k, v in point.items() if not k.startswith("time/")} for point in points]


def test_goes_on_where_it_was_stopped_and_ends_the_same(
    sslbench: Sslbench, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    typed = ["logger=none", "algorithm=mean_teacher", "seed=3"]
    folder = stopped(sslbench, monkeypatch, *typed)
    assert sslbench(f"resume={folder}") == 0
    assert ", from step 5" in capfd.readouterr().out
    assert sslbench(*TINY, *typed, "output_root=whole") == 0
    whole = tmp_path / "whole" / folder.name
    assert result_of(folder) == result_of(whole) | {"overrides": [*TINY, *typed]}
    assert plain_curves(folder) == plain_curves(whole)
    assert (folder / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    capfd.readouterr()
    assert sslbench(f"resume={folder}") == 0
    assert "finished already" in capfd.readouterr().out
    monkeypatch.chdir("/")
    assert sslbench(f"resume={tmp_path / folder}") == 0, "from anywhere"


def test_what_says_where_and_on_what_may_be_changed(
    sslbench: Sslbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = stopped(sslbench, monkeypatch, "logger=wandb", "logger.mode=offline", "logger.project=mine")
    changes = ["logger.tags=[again]", "threads=2", "log_every=3", "checkpoint_every=2", "data_root=elsewhere"]
    assert sslbench(f"resume={folder}", *changes) == 0
    settings = saved.load(folder / "config.yaml")
    assert (settings.logger["project"], settings.logger["tags"]) == ("mine", ["again"])
    assert (settings.threads, settings.log_every, settings.checkpoint_every) == (2, 3, "2")
    assert settings.overrides == [*TINY, "logger=wandb", "logger.mode=offline", "logger.project=mine"]
    assert (folder / "result.json").exists()


def test_another_logger(sslbench: Sslbench, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = stopped(sslbench, monkeypatch, "logger=none")
    assert sslbench(f"resume={folder}", "logger=wandb", "logger.mode=offline") == 0
    assert saved.load(folder / "config.yaml").choices["logger"] == "wandb"
    assert list((folder / "wandb").glob("offline-run-*"))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["steps=9"], "leave out steps=9"),
        (["algorithm=vat"], "leave out algorithm=vat"),
        (["algorithm.weight=2"], "leave out algorithm.weight=2"),
        (["++dataset.images.noise=0.5"], "leave out ++dataset.images.noise=0.5"),
        (["run_dir=other"], "leave out run_dir=other"),
        (["logger=wandb", "+logger.a.b=1"], "takes no argument 'a'"),
        (["logger.mode=offline"], "the run began with logger=none: logger.mode needs logger=... before it"),
    ],
)
def test_what_would_make_it_another_run_is_refused(
    sslbench: Sslbench,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    words: list[str],
    told: str,
) -> None:
    folder = stopped(sslbench, monkeypatch, "logger=none", "algorithm=pi_model")
    capfd.readouterr()
    assert sslbench(f"resume={folder}", *words) == 1
    [line] = capfd.readouterr().err.splitlines()
    assert told in line
    assert not (folder / "result.json").exists()


def test_an_empty_name_is_not_this_folder(sslbench: Sslbench, capfd: pytest.CaptureFixture[str]) -> None:
    assert sslbench("resume=") == 1
    assert "resume= names no folder" in capfd.readouterr().err


def test_no_run_there(sslbench: Sslbench, capfd: pytest.CaptureFixture[str]) -> None:
    assert sslbench("resume=nowhere") == 1
    [line] = capfd.readouterr().err.splitlines()
    assert line.endswith("nowhere is not a run's folder: it has no config.yaml")
    assert not Path("nowhere").exists()


def test_a_folder_may_not_choose_what_is_run(
    sslbench: Sslbench, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = stopped(sslbench, monkeypatch, "logger=none", "algorithm=pi_model")
    config_yaml = folder / "config.yaml"
    config_yaml.write_text(
        config_yaml.read_text().replace("sslbench.algorithms.pi_model.PiModel", "planted.PiModel")
    )
    (tmp_path / "planted.py").write_text("open('ran', 'w')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    capfd.readouterr()
    assert sslbench(f"resume={folder}") == 1
    [line] = capfd.readouterr().err.splitlines()
    assert "algorithm._target_=planted.PiModel does not come with sslbench" in line
    assert line.endswith("type the command again that began the run")
    assert not Path("ran").exists()


def test_not_in_a_sweep(sslbench: Sslbench, capfd: pytest.CaptureFixture[str]) -> None:
    assert sslbench("-m", "resume=one,other") == 1
    assert "resume takes the folder of one run, and no sweep" in capfd.readouterr().err
    assert not Path("outputs").exists()
