"""Runs carried out on this machine: order, places on GPUs, and errors that no run's folder can hold."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from helpers.results import write_result
from helpers.small_sweeps import TINY, Sslbench, count, planned
from sslbench.config.schema import Settings
from sslbench.errors import UserError
from sslbench.rundir.lock import run_lock
from sslbench.sweep.gpus import GpuSlots, visible_gpus
from sslbench.sweep.local import LocalRunner
from sslbench.sweep.monitor import Monitor
from sslbench.sweep.planned_run import PlannedRun

MakeSettings = Callable[..., Settings]
SHOWS_GPU = """
import os
from sslbench.algorithms.supervised import Supervised

def algorithm():
    print("sees", os.environ.get("CUDA_VISIBLE_DEVICES"), flush=True)
    return Supervised()
"""


def carry_out(
    runs: list[PlannedRun], sweep: Path, at_once: int | None = 1, **environment: str
) -> io.StringIO:
    """Carries out the runs; what is printed is the text, which another thread may read meanwhile."""
    out = io.StringIO()
    LocalRunner(sweep, Monitor(runs, len(runs), Console(file=out, width=200)), at_once, environment).run(runs)
    return out


def begin(runs: list[PlannedRun]) -> list[str]:
    """The names of the runs in the order in which they began."""
    return [str(run) for run in sorted(runs, key=lambda run: (run.folder / "split.npz").stat().st_mtime_ns)]


@pytest.fixture
def make_run(settings_of: MakeSettings) -> Callable[..., PlannedRun]:
    def make(*overrides: str) -> PlannedRun:
        settings = settings_of("algorithm=supervised", "threads=1", *overrides)
        return PlannedRun(settings, settings.directory(), settings.summary())

    return make


def test_runs_begin_in_the_order_of_the_plan(make_run: Callable[..., PlannedRun], tmp_path: Path) -> None:
    runs = [make_run(f"seed={seed}") for seed in (2, 0, 1)]
    carry_out(runs, tmp_path)
    assert begin(runs) == [str(run) for run in runs]


def test_what_another_process_trains_comes_last(make_run: Callable[..., PlannedRun], tmp_path: Path) -> None:
    lost, taken, free = (make_run(f"seed={seed}") for seed in range(3))

    def hold() -> None:
        with run_lock(lost.folder), run_lock(taken.folder):
            held.set()
            while not (free.folder / "result.json").exists():
                time.sleep(0.05)
            write_result(taken.folder, taken.run_id)

    held = threading.Event()
    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    carry_out([lost, taken, free], tmp_path)
    holder.join()
    assert begin([lost, free]) == [str(free), str(lost)]
    assert lost.result()
    assert not (taken.folder / "split.npz").exists(), "the process that held it has finished it"


def test_a_run_sees_its_gpu_alone_and_waits_for_it(
    make_run: Callable[..., PlannedRun], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shows_gpu.py").write_text(SHOWS_GPU)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho '0, GPU-made-up'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    visible_gpus.cache_clear()
    shows = ("algorithm._target_=shows_gpu.algorithm",)
    on_cpu, waits = make_run(*shows), make_run(*shows, "seed=1", "device=auto")
    out = io.StringIO()
    monitor = Monitor([waits, on_cpu], 2, Console(file=out, width=200))

    def hold() -> None:
        place = GpuSlots(("GPU-made-up",), 1).take()
        assert place is not None
        held.set()
        while "waiting for one" not in out.getvalue():
            time.sleep(0.05)
        before.append(waits.folder.exists())
        place[1].release()

    held, before = threading.Event(), list[bool]()
    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    LocalRunner(tmp_path, monitor, None, {}).run([waits, on_cpu])
    holder.join()
    visible_gpus.cache_clear()
    assert out.getvalue() == "all places on GPUs are taken (jobs_per_gpu=1): waiting for one\n"
    assert before == [False]
    assert "sees GPU-made-up" in (waits.folder / "job.log").read_text()
    assert "sees None" in (on_cpu.folder / "job.log").read_text(), "device=cpu takes no GPU"


def test_gpus_that_cannot_be_listed_are_one_error(
    make_run: Callable[..., PlannedRun], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed() -> None:
        raise UserError("there are GPUs")

    monkeypatch.setattr("sslbench.sweep.local.visible_gpus", closed)
    with pytest.raises(UserError, match="there are GPUs"):
        carry_out([make_run("device=auto")], tmp_path)


def block(folder: Path, how: str) -> Path:
    """Put something where a run with this folder writes."""
    place = folder if how == "folder" else folder / how
    place.parent.mkdir(parents=True, exist_ok=True)
    place.touch() if how == "folder" else place.mkdir()
    return place


@pytest.mark.parametrize(
    ("how", "fail_fast"),
    [("folder", False), ("job.log", True), pytest.param("status.json", False, marks=pytest.mark.thorough)],
)
def test_a_run_that_cannot_write_into_its_folder(
    how: str, fail_fast: bool, sslbench: Sslbench, capfd: pytest.CaptureFixture[str]
) -> None:
    typed = [*TINY, "algorithm=supervised", "seed=0,1", f"fail_fast={fail_fast}"]
    folder = planned(typed)[0].folder
    place = block(folder, how)
    assert sslbench("-m", *typed) == 1
    out = capfd.readouterr().out
    [line, *_] = (line for line in out.splitlines() if line.startswith(f"failed {folder.name}: "))
    assert str(folder) in line
    assert "seed=0" in line
    assert "traceback in" not in line
    rest = (1, 0) if fail_fast else (0, 1)
    assert (count(out, "failed"), count(out, "not started"), count(out, "finished")) == (1, *rest)
    if not fail_fast:
        assert out.index(line) < out.index("] finished "), "printed when it happens"
    place.unlink() if how == "folder" else place.rmdir()
    assert sslbench("-m", *typed) == 0
    assert count(capfd.readouterr().out, "finished") == 1 + fail_fast


def test_variables_of_the_configuration_reach_the_run(
    make_run: Callable[..., PlannedRun], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shows_gpu.py").write_text(SHOWS_GPU)
    monkeypatch.syspath_prepend(str(tmp_path))
    run = make_run("algorithm._target_=shows_gpu.algorithm")
    carry_out([run], tmp_path, CUDA_VISIBLE_DEVICES="of the user")
    assert "sees of the user" in (run.folder / "job.log").read_text()
