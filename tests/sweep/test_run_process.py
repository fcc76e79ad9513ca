"""One run in a process of its own, which fails and is killed here in every way that can be staged."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.small_sweeps import BROKEN, read
from sslbench.config import saved
from sslbench.config.schema import Settings
from sslbench.errors import UserError
from sslbench.rundir.lock import FolderLockedError, is_locked, run_lock
from sslbench.sweep import run_process
from sslbench.sweep.run_process import (
    STOP,
    RunFailedError,
    RunInterruptedError,
    train_in_process,
)

MakeSettings = Callable[..., Settings]
LONG = ("steps=1000000", "eval_every=50", "checkpoint_every=50", "threads=1")
PATIENCE = 300.0


def wait_for(what: Callable[[], Any]) -> Any:
    end = time.monotonic() + PATIENCE
    while not (found := what()):
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)
    return found


def status_of(settings: Settings) -> dict[str, Any]:
    path = settings.directory() / "status.json"
    return read(path) if path.exists() else {}


def trains(settings: Settings) -> Any:
    """The process id, once the run trains and has a checkpoint."""
    status = status_of(settings)
    checkpoint = settings.directory() / "checkpoint" / "last.pt"
    return status.get("status") == "running" and checkpoint.exists() and status["pid"]


def plain(result: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in result.items() if key not in ("train_seconds", "steps_per_second")}


def test_a_run_leaves_a_result_and_a_log(settings_of: MakeSettings, tmp_path: Path) -> None:
    settings = settings_of("threads=1")
    result = train_in_process(settings, tmp_path)
    folder = settings.directory()
    assert result == read(folder / "result.json")
    assert read(folder / "status.json")["status"] == "finished"
    assert "test acc at best val" in (folder / "job.log").read_text()


def test_an_error_in_training(
    settings_of: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_algorithm.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(str(tmp_path))
    settings = settings_of("algorithm=supervised", "algorithm._target_=broken_algorithm.Broken")
    with pytest.raises(RunFailedError, match=r"^RuntimeError: made to fail$"):
        train_in_process(settings, tmp_path)
    status = status_of(settings)
    assert (status["status"], status["error"]) == ("failed", "RuntimeError: made to fail")
    assert "broken_algorithm.py" in status["traceback"]
    log = (settings.directory() / "job.log").read_text()
    assert log.rstrip().endswith(status["traceback"].splitlines()[-1])
    assert "broken_algorithm.py" in log
    assert status["run"] == settings.summary()


def test_an_error_before_training(settings_of: MakeSettings, tmp_path: Path) -> None:
    images = np.zeros((30, 8, 8, 1), dtype=np.uint8)
    labels = np.arange(30) % 3
    np.savez(tmp_path / "few.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    settings = settings_of(
        "dataset=npz", f"dataset.path={tmp_path / 'few.npz'}", "num_labels=60", "num_valid=3"
    )
    with pytest.raises(RunFailedError, match="num_labels=60"):
        train_in_process(settings, tmp_path)
    status = status_of(settings)
    assert status["status"] == "failed"
    assert "num_labels=60" in status["error"]
    assert "UserError" in (settings.directory() / "job.log").read_text()


def test_killed_and_finished_afterwards(settings_of: MakeSettings, tmp_path: Path, thorough: bool) -> None:
    overrides = ("steps=1500", "eval_every=300", "checkpoint_every=25", "threads=1")
    settings = settings_of(*overrides)
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(train_in_process, settings, tmp_path)
        os.kill(wait_for(lambda: trains(settings)), signal.SIGKILL)
        with pytest.raises(RunInterruptedError, match=r"killed by SIGKILL; out of memory\?"):
            run.result()
    status = status_of(settings)
    assert status["status"] == "interrupted"
    assert "killed by SIGKILL" in status["error"]
    result = train_in_process(settings, tmp_path)
    log = (settings.directory() / "job.log").read_text()
    assert log.count("test acc at best val") == 1
    assert ", from step " in log
    if thorough:
        undisturbed = settings_of(*overrides, f"output_root={tmp_path / 'undisturbed'}")
        expected = train_in_process(undisturbed, tmp_path)
        assert plain(result) | {"overrides": []} == plain(expected) | {"overrides": []}


def test_terminated_alone(settings_of: MakeSettings, tmp_path: Path) -> None:
    settings = settings_of(*LONG, "fail_fast=true")
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(train_in_process, settings, tmp_path)
        os.kill(wait_for(lambda: trains(settings)), signal.SIGTERM)
        with pytest.raises(RunInterruptedError, match=r"^interrupted$"):
            run.result()
    assert status_of(settings)["status"] == "interrupted"
    assert not (tmp_path / "stop").exists(), "an interrupted run is no failure"


def test_stopped_with_the_sweep(settings_of: MakeSettings, tmp_path: Path) -> None:
    settings = settings_of(*LONG)
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(train_in_process, settings, tmp_path)
        wait_for(lambda: trains(settings))
        (tmp_path / STOP).touch()
        with pytest.raises(RunInterruptedError, match=r"^interrupted$"):
            run.result()
    assert status_of(settings)["status"] == "interrupted"
    other = settings_of(*LONG, "seed=1")
    with pytest.raises(RunInterruptedError, match="not started"):
        train_in_process(other, tmp_path)
    assert not other.directory().exists()


def test_a_locked_run_is_left_alone(settings_of: MakeSettings, tmp_path: Path) -> None:
    settings = settings_of("threads=1")
    with run_lock(settings.directory()), pytest.raises(FolderLockedError):
        train_in_process(settings, tmp_path)
    assert not settings.directory().exists(), "nothing was written into a folder that is not ours"


def test_a_run_that_is_locked_while_its_process_starts(
    settings_of: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_process, "is_locked", lambda folder: False)
    settings = settings_of("threads=1")
    with (
        run_lock(settings.directory()),
        pytest.raises(FolderLockedError, match="another process"),
    ):
        train_in_process(settings, tmp_path)


def test_an_error_of_any_length_and_no_file_left_open(
    settings_of: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_algorithm.py").write_text(BROKEN.replace('"made to fail"', '"x" * 300_000'))
    monkeypatch.syspath_prepend(str(tmp_path))
    errors, opened = [], []
    for seed in range(3):
        settings = settings_of(
            "algorithm=supervised", "algorithm._target_=broken_algorithm.Broken", f"seed={seed}"
        )
        with pytest.raises(RunFailedError, match=r"^RuntimeError: xxx") as caught:
            train_in_process(settings, tmp_path)
        errors.append(caught.value)  # as Hydra keeps those of jobs
        opened.append(len(list(Path("/proc/self/fd").iterdir())))
        assert len(str(caught.value)) < 5000
        assert len(status_of(settings)["error"]) > 300_000
    assert opened[1] == opened[2]


def test_killed_after_the_result_was_written(
    settings_of: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "killer.py").write_text(
        "import os, signal\n"
        "class Killer:\n"
        "    def start(self, run): pass\n"
        "    def log(self, step, metrics): pass\n"
        "    def close(self, status, result):\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    settings = settings_of("logger._target_=killer.Killer", "threads=1")
    result = train_in_process(settings, tmp_path)
    assert result == read(settings.directory() / "result.json")


def server_of(pid: int) -> int:
    """The fork server of a run's process."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_signal_to_the_whole_job_interrupts_the_run(settings_of: MakeSettings, tmp_path: Path) -> None:
    settings = settings_of(*LONG)
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(train_in_process, settings, tmp_path)
        pid = wait_for(lambda: trains(settings))
        server = server_of(pid)
        for receiver in (server, pid):
            os.kill(receiver, signal.SIGUSR2)
        with pytest.raises(RunInterruptedError, match=r"^interrupted$"):
            run.result()
    assert status_of(settings)["status"] == "interrupted"
    assert "error" not in status_of(settings)
    os.kill(server, 0)  # raises if it is gone


@pytest.mark.thorough
def test_a_run_does_not_outlive_its_fork_server(settings_of: MakeSettings, tmp_path: Path) -> None:
    settings = settings_of(*LONG)
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(train_in_process, settings, tmp_path)
        pid = wait_for(lambda: trains(settings))
        os.kill(server_of(pid), signal.SIGKILL)
        with pytest.raises(UserError, match="ended with exit code 255"):
            run.result()
    wait_for(lambda: status_of(settings)["status"] == "interrupted")
    # A new server is started for the next one.
    assert train_in_process(settings_of("threads=1"), tmp_path)["steps"] == 8


def test_a_file_that_cannot_be_written_is_no_failure_of_the_run(
    settings_of: MakeSettings, tmp_path: Path
) -> None:
    settings = settings_of("threads=1")
    settings.directory().mkdir(parents=True)
    in_the_way = settings.directory() / "checkpoint"
    in_the_way.touch()
    with pytest.raises(RunInterruptedError, match="the same command continues"):
        train_in_process(settings, tmp_path)
    assert status_of(settings)["status"] == "interrupted"
    in_the_way.unlink()
    assert train_in_process(settings, tmp_path)["steps"] == 8


PARENT = """
import sys
from pathlib import Path
from sslbench.config import saved, schema
from sslbench.sweep.run_process import train_in_process

if __name__ == "__main__":
    schema.register()
    train_in_process(saved.load(Path(sys.argv[1])), Path(sys.argv[2]))
"""


@pytest.mark.thorough
def test_a_run_does_not_outlive_its_parent(settings_of: MakeSettings, tmp_path: Path) -> None:
    settings = settings_of(*LONG)
    config_yaml = tmp_path / "settings.yaml"
    config_yaml.write_text(saved.save(settings))
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    with subprocess.Popen([sys.executable, str(script), str(config_yaml), str(tmp_path)]) as parent:
        try:
            wait_for(lambda: trains(settings))
        finally:
            parent.kill()
    wait_for(lambda: status_of(settings)["status"] == "interrupted")
    wait_for(lambda: not is_locked(settings.directory()))
