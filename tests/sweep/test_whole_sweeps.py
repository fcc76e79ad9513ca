"""Whole sweeps as they are typed, in processes of their own: killed, interrupted, and under real launchers.

The plugins of Slurm and Ray come with the extras ``slurm`` and ``ray``; the extra ``dev`` has both.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from helpers.small_sweeps import TINY, Sslbench, add_broken, check_interrupted, count, read
from sslbench.config.schema import conf_dir

PATIENCE = 300.0
END = "test acc at best val"  # in job.log, once for each time that the end was reached


def wait_for(what: Callable[[], Any], sweep: subprocess.Popen[str] | None = None) -> Any:
    end = time.monotonic() + PATIENCE
    while not (found := what()):
        assert time.monotonic() < end, "waited too long"
        assert sweep is None or sweep.poll() is None, "the sweep has ended"
        time.sleep(0.05)
    return found


@contextmanager
def command(folder: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A sweep, which ends with the block."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")])),
        "RAY_AUTH_MODE": "disabled",  # a key in the home folder is no business of a test
    }
    with subprocess.Popen(
        [sys.executable, "-m", "sslbench", "-m", *words],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # a group of its own, as a shell gives to what is typed
    ) as sweep:
        try:
            yield sweep
        finally:
            sweep.kill()


def has_processes(session: int) -> bool:
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, its_session, *_ = path.read_text().rpartition(")")[2].split()
            if (
                int(its_session) == session and state != "Z"
            ):  # one that has ended, and whose end nobody has read
                return True
        except OSError:  # it ends in this moment
            continue
    return False


@pytest.mark.fault(
    "a sweep of two runs at a time killed with SIGKILL, and typed again",
    "no process is left; runs under way stop with a checkpoint, and every run ends once",
)
def test_a_killed_sweep_leaves_nothing_behind(
    sslbench: Sslbench, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words = ["launcher=local", "hydra.launcher.n_jobs=2", *TINY, "algorithm=supervised", "seed=0,1,2"]
    words += ["steps=1500", "eval_every=500", "checkpoint_every=10"]
    outputs = tmp_path / "outputs"
    with command(tmp_path, *words) as sweep:
        wait_for(lambda: list(outputs.glob("*/checkpoint/last.pt")), sweep)
        sweep.kill()
    wait_for(lambda: not has_processes(sweep.pid))
    states = [read(path)["status"] for path in outputs.glob("*/status.json")]
    assert "interrupted" in states
    assert "running" not in states
    assert sslbench("-m", *words) == 0
    out = capfd.readouterr().out
    assert count(out, "finished") + count(out, "skipped, finished before") == 3
    logs = [path.read_text() for path in outputs.glob("*/job.log")]
    assert [log.count(END) for log in logs] == [1, 1, 1]
    assert any(", from step " in log for log in logs)


def test_two_sweeps_share_the_work_and_one_outlives_its_shell(sslbench: Sslbench, tmp_path: Path) -> None:
    words = ["-m", *TINY, "algorithm=supervised", "seed=0,1,2,3", "steps=1500", "eval_every=20"]
    line = f"{sys.executable} -m sslbench {shlex.join(words)} > out.log 2>&1 &"
    subprocess.run(["sh", "-c", line], cwd=tmp_path, check=True)  # ends at once
    wait_for(lambda: list((tmp_path / "outputs").glob("*/status.json")))
    assert sslbench(*words) == 0
    wait_for(lambda: "skipped" in (tmp_path / "out.log").read_text())
    logs = [path.read_text() for path in (tmp_path / "outputs").glob("*/job.log")]
    assert [log.count(END) for log in logs] == [1, 1, 1, 1]
    spans = sorted(
        (begun.stat().st_mtime, begun.with_name("result.json").stat().st_mtime)
        for begun in (tmp_path / "outputs").glob("*/split.npz")
    )
    overlaps = [after[0] < before[1] for before, after in pairwise(spans)]
    assert any(overlaps), "side by side, and not each waiting for the other's runs"
    assert len(list((tmp_path / "outputs" / "sweeps").iterdir())) == 2


@pytest.mark.fault(
    "a sweep interrupted by Ctrl-C (every process of it gets SIGINT), by kill -INT and by kill -TERM",
    "each run under way stops after its step and leaves a checkpoint of there; exit code 130 or 143",
)
@pytest.mark.parametrize("end", ["terminal", "kill -INT", "group -TERM"])
@pytest.mark.parametrize("launcher", ["none", "local"])
@pytest.mark.thorough
def test_interrupted_by_hand(launcher: str, end: str, tmp_path: Path) -> None:
    # Slow steps, more places than runs, and no checkpoint but that of the interrupt.
    words = [f"launcher={launcher}", "model=wrn_28_2", "logger=none", "device=cpu", "threads=1"]
    words += ["algorithm=pi_model", "seed=0,1", "steps=1000000", "eval_every=1000000", "log_every=1"]
    words += ["checkpoint_every=1000s"]
    words += ["hydra.launcher.n_jobs=3"] if launcher == "local" else []
    outputs = tmp_path / "outputs"
    with command(tmp_path, *words) as sweep:
        wait_for(lambda: any(path.stat().st_size for path in outputs.glob("*/metrics.jsonl")), sweep)
        number = signal.SIGTERM if end == "group -TERM" else signal.SIGINT
        (os.kill if end == "kill -INT" else os.killpg)(sweep.pid, number)
        out = sweep.communicate(timeout=PATIENCE)[0]
    assert sweep.returncode == 128 + number, out
    check_interrupted(outputs)
    assert out.endswith(
        "sslbench: interrupted: 0 of 2 runs in outputs finished; the same command continues\n"
    )


@pytest.mark.fault(
    "a sweep killed with SIGKILL three times; one in which an algorithm raises and a run is killed",
    "every run ends once, as in an undisturbed sweep; the failing ones are reported and stop nothing",
)
@pytest.mark.thorough
def test_kills_on_purpose(tmp_path: Path) -> None:
    """The script of the documentation, on a grid of four."""
    script = conf_dir().parent / "benchmarks" / "sweep_faults.py"
    words = "--algorithms pi_model,ict --losses mse --seeds 2 --kills 1 --steps 200"
    done = subprocess.run(
        [sys.executable, str(script), *words.split()],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("all holds\n")


@pytest.mark.fault(
    "the first failure of a sweep with fail_fast=true, whose output nobody reads (| head -c 1)",
    "no other run begins",
)
@pytest.mark.thorough
def test_the_first_failure_stops_a_sweep_that_nobody_reads(tmp_path: Path) -> None:
    own = add_broken(tmp_path)
    words = ["-m", *own, *TINY, "algorithm=broken,supervised", "seed=0,1", "fail_fast=true"]
    words += ["steps=1000000", "eval_every=1000000"]
    line = f"{sys.executable} -m sslbench {shlex.join(words)} | head -c 1"
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path}
    subprocess.run(["bash", "-c", line], cwd=tmp_path, check=True, capture_output=True, env=environment)
    assert not list((tmp_path / "outputs").glob("*/result.json"))
    [begun] = (tmp_path / "outputs").glob("*/status.json")
    assert read(begun)["status"] == "failed", "nothing was begun after it"


@pytest.mark.fault(
    "an algorithm that raises, among jobs of submitit and of Ray",
    "its error is printed with what was typed, and the other runs finish",
)
@pytest.mark.parametrize("launcher", ["slurm_local", "ray"])
@pytest.mark.thorough
def test_real_jobs(launcher: str, tmp_path: Path) -> None:
    own = add_broken(tmp_path)
    words = [*own, f"launcher={launcher}", *TINY, "algorithm=broken,supervised,pi_model", "seed=0"]
    with command(tmp_path, *words) as sweep:
        out = sweep.communicate()[0]
    assert sweep.returncode == 1, out
    results = sorted(path.parent.name for path in (tmp_path / "outputs").glob("*/result.json"))
    assert [name.partition("-")[0] for name in results] == ["pi_model", "supervised"]
    [broken] = (tmp_path / "outputs").glob("broken-*")
    assert read(broken / "status.json")["error"] == "RuntimeError: made to fail"
    assert "RuntimeError: made to fail [" in out
    assert "Traceback" not in out
    assert "Ray" not in out, "what an engine says of itself is not news of the sweep"
    # Each run in a process of its own, which is not that of the sweep.
    pids = {read(path)["pid"] for path in (tmp_path / "outputs").glob("*/status.json")}
    assert len(pids) == 3
    assert sweep.pid not in pids


def worker_of(pid: int) -> int:
    """The process that started the server from which process `pid` was forked."""

    def parent(child: int) -> int:
        return int(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[1])

    return parent(parent(pid))


@pytest.mark.fault(
    "a worker of a sweep killed with SIGKILL (submitit, Ray)",
    "all runs of the sweep end with their results, the one under way goes on from its checkpoint",
)
@pytest.mark.parametrize("launcher", ["slurm_local", "ray"])
@pytest.mark.thorough
def test_a_killed_worker_takes_no_run_along(launcher: str, tmp_path: Path) -> None:
    words = [f"launcher={launcher}", *TINY, "algorithm=pi_model", "seed=0,1,2,3"]
    words += ["steps=500", "eval_every=50", "checkpoint_every=50"]

    def trains() -> Any:
        for path in (tmp_path / "outputs").glob("*/status.json"):
            status = read(path)
            if status["status"] == "running" and (path.parent / "checkpoint" / "last.pt").exists():
                return status["pid"]
        return None

    with command(tmp_path, *words) as sweep:
        os.kill(worker_of(wait_for(trains, sweep)), signal.SIGKILL)
        out = sweep.communicate()[0]
    assert sweep.returncode == 0, out
    assert len(list((tmp_path / "outputs").glob("*/result.json"))) == 4
    logs = [path.read_text() for path in (tmp_path / "outputs").glob("*/job.log")]
    assert all(log.count(END) == 1 for log in logs)
    assert any(", from step " in log for log in logs)


def test_slurm_is_asked_for_what_the_configuration_says(
    sslbench: Sslbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Without a Slurm the launcher says so; the jobs it would have submitted are checked by their script."""
    sbatch = tmp_path / "bin" / "sbatch"
    sbatch.parent.mkdir()
    sbatch.write_text('#!/bin/sh\ncp "$1" "$ASKED"\nexit 1\n')
    sbatch.chmod(0o755)
    (sbatch.parent / "srun").symlink_to(sbatch)
    asked = tmp_path / "asked.sh"
    monkeypatch.setenv("PATH", str(sbatch.parent), prepend=":")
    monkeypatch.setenv("ASKED", str(asked))
    words = ["-m", "launcher=slurm", "hydra.launcher.partition=gpu", *TINY, "seed=0,1"]
    assert sslbench(*words) == 1
    out, err = capfd.readouterr()
    assert out.count("jobs were lost") == 1
    assert out.splitlines()[-1].startswith("the launcher cannot start jobs (")
    assert "not started: " not in out
    assert "Traceback" not in err
    script = asked.read_text()
    for line in ("--partition=gpu", "--array=0-1%2", "--gpus-per-node=1", "--mem=16GB", "--time=120"):
        assert f"#SBATCH {line}" in script
