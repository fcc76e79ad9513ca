"""One cell in a process of its own, which fails and is killed here in every way that can be staged."""

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

import pytest

from helpers.small_sweeps import BROKEN, read
from sslbench.config import saved
from sslbench.config.schema import Settings
from sslbench.rundir.lock import is_locked, run_lock
from sslbench.sweep import worker
from sslbench.sweep.driver import DRIVER
from sslbench.sweep.gpus import Gpu, gpu_slot
from sslbench.sweep.run_errors import CellError, ElsewhereError
from sslbench.sweep.sweep_folder import STOP
from sslbench.sweep.worker import train_cell

MakeSettings = Callable[..., Settings]
LONG = ("steps=1000000", "eval_every=50", "checkpoint_every=50", "threads=1")
PATIENCE = 120.0
GPU = Gpu("99", "GPU-made-up")


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
    """The process id, once the cell trains and has a checkpoint."""
    status = status_of(settings)
    checkpoint = settings.directory() / "checkpoint" / "last.pt"
    return status.get("status") == "running" and checkpoint.exists() and status["pid"]


def plain(result: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in result.items() if key not in ("train_seconds", "steps_per_second")}


def test_a_cell_leaves_a_result_and_a_log(settings_of: MakeSettings, tmp_path: Path) -> None:
    settings = settings_of("threads=1")
    result = train_cell(settings, tmp_path)
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
    with pytest.raises(CellError, match=r"^RuntimeError: made to fail$"):
        train_cell(settings, tmp_path)
    status = status_of(settings)
    assert (status["status"], status["error"]) == ("failed", "RuntimeError: made to fail")
    assert "broken_algorithm.py" in status["traceback"]
    log = (settings.directory() / "job.log").read_text()
    assert log.rstrip().endswith(status["traceback"].splitlines()[-1])
    assert "broken_algorithm.py" in log
    assert status["run"] == settings.summary()


def test_fail_fast_stops_the_sweep(
    settings_of: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_algorithm.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(str(tmp_path))
    raises = ("algorithm=supervised", "algorithm._target_=broken_algorithm.Broken")
    for fail_fast in (False, True):
        with pytest.raises(CellError, match="made to fail"):
            train_cell(settings_of(*raises, f"fail_fast={fail_fast}"), tmp_path)
        assert (tmp_path / "stop").exists() == fail_fast


def test_an_error_before_training(settings_of: MakeSettings, tmp_path: Path) -> None:
    settings = settings_of("dataset=npz", "dataset.path=absent.npz", "num_labels=20", "num_valid=20")
    with pytest.raises(CellError, match=r"absent.npz: no such file"):
        train_cell(settings, tmp_path)
    status = status_of(settings)
    assert status["status"] == "failed"
    assert "absent.npz: no such file" in status["error"]
    assert "UserError" in (settings.directory() / "job.log").read_text()


def test_killed_and_finished_afterwards(settings_of: MakeSettings, tmp_path: Path) -> None:
    overrides = ("steps=3000", "eval_every=300", "checkpoint_every=100", "threads=1")
    settings = settings_of(*overrides)
    with ThreadPoolExecutor(1) as pool:
        cell = pool.submit(train_cell, settings, tmp_path)
        os.kill(wait_for(lambda: trains(settings)), signal.SIGKILL)
        with pytest.raises(CellError, match=r"killed by SIGKILL; out of memory\?"):
            cell.result()
    status = status_of(settings)
    assert status["status"] == "interrupted"
    assert "killed by SIGKILL" in status["error"]
    result = train_cell(settings, tmp_path)
    undisturbed = settings_of(*overrides, f"output_root={tmp_path / 'undisturbed'}")
    assert plain(result) | {"overrides": []} == plain(train_cell(undisturbed, tmp_path)) | {"overrides": []}
    log = (settings.directory() / "job.log").read_text()
    assert log.count("test acc at best val") == 1
    assert ", from step " in log


def test_terminated_alone(settings_of: MakeSettings, tmp_path: Path) -> None:
    settings = settings_of(*LONG, "fail_fast=true")
    with ThreadPoolExecutor(1) as pool:
        cell = pool.submit(train_cell, settings, tmp_path)
        os.kill(wait_for(lambda: trains(settings)), signal.SIGTERM)
        with pytest.raises(CellError, match=r"^interrupted$"):
            cell.result()
    assert status_of(settings)["status"] == "interrupted"
    assert not (tmp_path / "stop").exists(), "an interrupted run is no failure"


def test_stopped_with_the_sweep(settings_of: MakeSettings, tmp_path: Path) -> None:
    settings = settings_of(*LONG)
    with ThreadPoolExecutor(1) as pool:
        cell = pool.submit(train_cell, settings, tmp_path)
        wait_for(lambda: trains(settings))
        (tmp_path / STOP).touch()
        with pytest.raises(CellError, match=r"^interrupted$"):
            cell.result()
    assert status_of(settings)["status"] == "interrupted"
    other = settings_of(*LONG, "seed=1")
    with pytest.raises(CellError, match="not started"):
        train_cell(other, tmp_path)
    assert not other.directory().exists()


def test_a_cell_in_use_is_left_to_who_has_it(settings_of: MakeSettings, tmp_path: Path) -> None:
    settings = settings_of("threads=1")
    with run_lock(settings.directory()), pytest.raises(ElsewhereError):
        train_cell(settings, tmp_path)
    assert not settings.directory().exists(), "nothing was written into a folder that is not ours"


def test_a_cell_that_is_taken_while_its_process_starts(
    settings_of: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "is_locked", lambda folder: False)
    settings = settings_of("threads=1")
    with run_lock(settings.directory()), pytest.raises(ElsewhereError, match="another process is training"):
        train_cell(settings, tmp_path)


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
        with pytest.raises(CellError, match=r"^RuntimeError: xxx") as caught:
            train_cell(settings, tmp_path)
        errors.append(caught.value)  # as Hydra keeps those of jobs
        opened.append(len(list(Path("/proc/self/fd").iterdir())))
        assert len(str(caught.value)) < 5000
        assert len(status_of(settings)["error"]) > 300_000
    assert opened[1] == opened[2]


def test_killed_after_the_result_was_written(settings_of: MakeSettings, tmp_path: Path) -> None:
    settings = settings_of("threads=1")
    result = train_cell(settings, tmp_path)
    assert worker._outcome(settings, -signal.SIGKILL, "") == result


def server_of(pid: int) -> int:
    """The fork server of a cell's process."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_a_signal_to_the_whole_job_interrupts_the_cell(settings_of: MakeSettings, tmp_path: Path) -> None:
    settings = settings_of(*LONG)
    with ThreadPoolExecutor(1) as pool:
        cell = pool.submit(train_cell, settings, tmp_path)
        pid = wait_for(lambda: trains(settings))
        server = server_of(pid)
        for receiver in (server, pid):
            os.kill(receiver, signal.SIGUSR2)
        with pytest.raises(CellError, match=r"^interrupted$"):
            cell.result()
    assert status_of(settings)["status"] == "interrupted"
    assert "error" not in status_of(settings)
    os.kill(server, 0)  # raises if it is gone


def test_a_cell_does_not_outlive_its_fork_server(settings_of: MakeSettings, tmp_path: Path) -> None:
    settings = settings_of(*LONG)
    with ThreadPoolExecutor(1) as pool:
        cell = pool.submit(train_cell, settings, tmp_path)
        pid = wait_for(lambda: trains(settings))
        os.kill(server_of(pid), signal.SIGKILL)
        with pytest.raises(CellError):
            cell.result()
    wait_for(lambda: status_of(settings)["status"] == "interrupted")
    # A new server is started for the next one.
    assert train_cell(settings_of("threads=1"), tmp_path)["steps"] == 8


def test_a_file_that_cannot_be_written_is_no_failure_of_the_run(
    settings_of: MakeSettings, tmp_path: Path
) -> None:
    settings = settings_of("threads=1")
    settings.directory().mkdir(parents=True)
    in_the_way = settings.directory() / "checkpoint"
    in_the_way.touch()
    with pytest.raises(CellError, match="what was written is kept"):
        train_cell(settings, tmp_path)
    assert status_of(settings)["status"] == "interrupted"
    in_the_way.unlink()
    assert train_cell(settings, tmp_path)["steps"] == 8


def test_the_cell_sees_its_gpu_alone(
    settings_of: MakeSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "telling.py").write_text(
        "import os\n"
        "from sslbench.algorithms.supervised import Supervised\n"
        "def telling():\n"
        "    print('sees', os.environ.get('CUDA_VISIBLE_DEVICES'), flush=True)\n"
        "    return Supervised()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr(worker, "visible_gpus", lambda: (GPU,))
    settings = settings_of("algorithm=supervised", "algorithm._target_=telling.telling", "threads=1")
    train_cell(settings, tmp_path)
    assert "sees None" in (settings.directory() / "job.log").read_text(), "device=cpu takes no GPU"
    settings.device, settings.seed = "auto", 1
    monkeypatch.setenv(DRIVER, str(os.getpid()))  # of a worker that no scheduler gave its GPUs
    with gpu_slot([GPU], 1, pause=lambda: None), ThreadPoolExecutor(1) as pool:
        cell = pool.submit(train_cell, settings, tmp_path)
        wait_for(lambda: "waits for a GPU (jobs_per_gpu=1)" in capsys.readouterr().err)
        assert not settings.directory().exists()
        (tmp_path / STOP).touch()
        with pytest.raises(CellError, match="not started"):
            cell.result()
    (tmp_path / STOP).unlink()
    train_cell(settings, tmp_path)
    assert "sees 99" in (settings.directory() / "job.log").read_text()


PARENT = """
import sys
from pathlib import Path
from sslbench.config import saved, schema
from sslbench.sweep.worker import train_cell

if __name__ == "__main__":
    schema.register()
    train_cell(saved.load(Path(sys.argv[1])), Path(sys.argv[2]))
"""


def test_a_cell_does_not_outlive_its_parent(settings_of: MakeSettings, tmp_path: Path) -> None:
    settings = settings_of(*LONG)
    config_yaml = tmp_path / "settings.yaml"
    config_yaml.write_text(saved.save(settings))
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    with subprocess.Popen([sys.executable, str(script), str(config_yaml), str(tmp_path)]) as parent:
        wait_for(lambda: trains(settings))
        parent.kill()
    wait_for(lambda: status_of(settings)["status"] == "interrupted")
    wait_for(lambda: not is_locked(settings.directory()))
