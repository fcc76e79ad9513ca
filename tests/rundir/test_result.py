from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sslbench.config import saved
from sslbench.config.schema import Settings
from sslbench.errors import UserError
from sslbench.rundir.records import RunResult
from sslbench.rundir.result import finished_result, read_result, require_space

MakeSettings = Callable[..., Settings]


def write_result(folder: Path, settings: Settings) -> dict[str, Any]:
    """A result as a run of `settings` writes it."""
    fractions = ("val_acc_best", "test_acc", "test_acc_last", "test_acc_median20", "test_ece")
    result = RunResult(
        **settings.summary(), **dict.fromkeys(fractions, 0.5), folder=folder, split_hash="0f", overrides=(),
        step_best=8, train_seconds=1.5, steps_per_second=9.0, device="cpu", precision="fp32", torch="2.11",
        git_commit=None,
    )  # fmt: skip
    (folder / "result.json").write_text(json.dumps(result.content()))
    return result.content()


def test_result_of_the_same_settings(settings_of: MakeSettings, tmp_path: Path) -> None:
    settings = settings_of()
    assert finished_result(tmp_path / "absent", settings) is None
    (tmp_path / "config.yaml").write_text(saved.save(settings))
    assert finished_result(tmp_path, settings) is None
    result = write_result(tmp_path, settings)
    assert finished_result(tmp_path, settings) == result
    # Places and logging are not what a run computes.
    elsewhere = settings_of("threads=1", "log_every=5", "output_root=/elsewhere", "logger=wandb")
    assert finished_result(tmp_path, elsewhere) == result


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("optimizer.lr=0.5", r"optimizer\.lr is [\d.e-]+ there and 0\.5 here"),
        ("seed=3", "seed is 0 there and 3 here"),
        ("dataset.images.crop=0", r"dataset\.images\.crop is 1 there and 0 here"),
        ("batch.labelled=7", r"batch\.labelled is 20 there and 7 here"),
    ],
)
def test_folder_of_other_settings(
    settings_of: MakeSettings, tmp_path: Path, override: str, named: str
) -> None:
    (tmp_path / "config.yaml").write_text(saved.save(settings_of()))
    ours, message = settings_of(override), rf"another configuration \({named}\): choose another run_dir"
    with pytest.raises(UserError, match=message):
        finished_result(tmp_path, ours)
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(UserError, match=message):
        finished_result(tmp_path, ours)


def test_a_result_without_a_configuration_is_checked_too(settings_of: MakeSettings, tmp_path: Path) -> None:
    settings = settings_of()
    result = write_result(tmp_path, settings)
    assert finished_result(tmp_path, settings) == result
    with pytest.raises(UserError, match=rf"holds the result of another run \({settings.run_id}\): choose"):
        finished_result(tmp_path, settings_of("seed=1"))


def test_damaged_result(settings_of: MakeSettings, tmp_path: Path) -> None:
    settings = settings_of()
    (tmp_path / "config.yaml").write_text(saved.save(settings))
    for content in (b"", b'{"val_acc_best": 0.', b"\xff\xfe\x00"):
        (tmp_path / "result.json").write_bytes(content)
        with pytest.raises(UserError, match=r"result\.json is damaged \(.+\): delete it and run again"):
            finished_result(tmp_path, settings)


def test_no_result(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no finished run: it has no result\.json"):
        read_result(tmp_path)


def test_result_of_what_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(UserError):
        read_result(tmp_path / "model.safetensors")


def test_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []

    def disk_usage(path: Path) -> SimpleNamespace:
        asked.append(path)
        return SimpleNamespace(total=2**40, used=2**40 - 100 * 2**20, free=100 * 2**20)

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    require_space(tmp_path, 100 * 2**20)
    with pytest.raises(UserError, match=r"has 100 MiB free and the run needs about 200 MiB: free some space"):
        require_space(tmp_path, 200 * 2**20)
    with pytest.raises(UserError):
        require_space(tmp_path, 100 * 2**20 + 1)
    assert set(asked) == {tmp_path}


def test_space_that_the_run_holds_already_is_not_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    with pytest.raises(UserError):
        require_space(tmp_path, 1500)
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "last.pt").write_bytes(bytes(500))
    require_space(tmp_path, 1500)
