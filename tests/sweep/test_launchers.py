"""The launchers with real jobs, and a whole sweep that is killed and loses single runs.

The plugins come with the extras ``parallel``, ``slurm`` and ``ray``; the extra ``dev`` has all three.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers.small_sweeps import TINY, add_broken, read
from sslbench.config.schema import conf_dir
from sslbench.rundir.checkpoint import load_checkpoint

PATIENCE = 200.0


def command(folder: Path, *words: str) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")])),
        "RAY_AUTH_MODE": "disabled",  # a key in the home folder is no business of a test
    }
    return subprocess.Popen(
        [sys.executable, "-m", "sslbench", "-m", *words],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # a group of its own, as a shell gives to what is typed
    )


@pytest.mark.parametrize("launcher", ["joblib", "slurm_local", "ray"])
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


def test_slurm_is_asked_for_what_the_configuration_says(tmp_path: Path) -> None:
    """Without a Slurm the launcher says so; the jobs it would have submitted are checked by their script."""
    sbatch = tmp_path / "bin" / "sbatch"
    sbatch.parent.mkdir()
    sbatch.write_text('#!/bin/sh\ncp "$1" "$ASKED"\nexit 1\n')
    sbatch.chmod(0o755)
    (sbatch.parent / "srun").symlink_to(sbatch)
    asked = tmp_path / "asked.sh"
    environment = {**os.environ, "PATH": f"{sbatch.parent}:{os.environ['PATH']}", "ASKED": str(asked)}
    words = ["-m", "launcher=slurm", "hydra.launcher.partition=gpu", *TINY, "seed=0,1"]
    done = subprocess.run(
        [sys.executable, "-m", "sslbench", *words],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout.count("jobs were lost") == 1
    assert done.stdout.splitlines()[-1].startswith("the launcher cannot start jobs (")
    assert "not started: " not in done.stdout
    assert "Traceback" not in done.stderr
    script = asked.read_text()
    for line in ("--partition=gpu", "--array=0-1%2", "--gpus-per-node=1", "--mem=16GB", "--time=120"):
        assert f"#SBATCH {line}" in script


def worker_of(pid: int) -> int:
    """The process that started the server from which process `pid` was forked."""

    def parent(child: int) -> int:
        return int(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[1])

    return parent(parent(pid))


@pytest.mark.fault(
    "a worker of a sweep killed with SIGKILL (joblib, submitit, Ray)",
    "all runs of the sweep end with their results, the one under way goes on from its checkpoint",
)
@pytest.mark.parametrize("launcher", ["joblib", "slurm_local", "ray"])
def test_a_killed_worker_takes_no_run_along(launcher: str, tmp_path: Path, thorough: bool) -> None:
    if launcher != "joblib" and not thorough:
        pytest.skip("only with --thorough (make faults)")
    words = [f"launcher={launcher}", *TINY, "algorithm=pi_model", "seed=0,1,2,3"]
    words += ["hydra.launcher.n_jobs=2"] if launcher == "joblib" else []
    words += ["steps=500", "eval_every=50", "checkpoint_every=50"]
    with command(tmp_path, *words) as sweep:
        end, killed = time.monotonic() + PATIENCE, 0
        while not killed:
            assert time.monotonic() < end
            assert sweep.poll() is None
            time.sleep(0.05)
            for path in (tmp_path / "outputs").glob("*/status.json"):
                status = read(path)
                if status["status"] == "running" and (path.parent / "checkpoint" / "last.pt").exists():
                    killed = worker_of(status["pid"])
                    os.kill(killed, signal.SIGKILL)
                    break
        out = sweep.communicate()[0]
    assert sweep.returncode == 0, out
    assert len(list((tmp_path / "outputs").glob("*/result.json"))) == 4
    logs = [path.read_text() for path in (tmp_path / "outputs").glob("*/job.log")]
    assert all(log.count("test acc at best val") == 1 for log in logs)
    assert any(", from step " in log for log in logs)


@pytest.mark.fault(
    "a sweep interrupted by Ctrl-C (every process of it gets SIGINT), by kill -INT and by kill -TERM",
    "each run under way stops after its step and leaves a checkpoint of there; exit code 130 or 143",
)
@pytest.mark.parametrize("end", ["terminal", "kill -INT", "group -TERM"])
@pytest.mark.parametrize("launcher", ["none", "joblib"])
def test_interrupted_by_hand(launcher: str, end: str, tmp_path: Path) -> None:
    # Slow steps, more workers than runs, and no checkpoint but that of the interrupt.
    words = [f"launcher={launcher}", "model=wrn_28_2", "logger=none", "device=cpu", "threads=1"]
    words += [
        "algorithm=pi_model",
        "seed=0,1",
        "steps=1000000",
        "eval_every=1000000",
        "log_every=1",
        "checkpoint_every=1000s",
    ]
    words += ["hydra.launcher.n_jobs=3"] if launcher == "joblib" else []
    with command(tmp_path, *words) as sweep:
        patience = time.monotonic() + PATIENCE
        while not any(path.stat().st_size for path in (tmp_path / "outputs").glob("*/metrics.jsonl")):
            assert time.monotonic() < patience
            assert sweep.poll() is None
            time.sleep(0.05)
        number = signal.SIGTERM if end == "group -TERM" else signal.SIGINT
        (os.kill if end == "kill -INT" else os.killpg)(sweep.pid, number)
        out = sweep.communicate(timeout=PATIENCE)[0]
    assert sweep.returncode == 128 + number, out
    for path in (tmp_path / "outputs").glob("*/metrics.jsonl"):
        logged = len(path.read_text().splitlines())
        if logged:
            state = load_checkpoint(path.parent / "checkpoint" / "last.pt")
            assert state["step"] == len(state["history"]) == logged, "nothing is lost"
    assert out.endswith("sslbench: interrupted; the same command continues\n")
    statuses = [read(path) for path in (tmp_path / "outputs").glob("*/status.json")]
    assert statuses
    assert {status["status"] for status in statuses} == {"interrupted"}
    assert not [status for status in statuses if "error" in status], "ended in order, not killed"


@pytest.mark.parametrize("launcher", ["none", "joblib"])
def test_a_sweep_outlives_the_shell_that_it_was_typed_in(launcher: str, tmp_path: Path) -> None:
    words = ["-m", f"launcher={launcher}", *TINY, "algorithm=pi_model", "seed=0,1"]
    line = f"{sys.executable} -m sslbench {shlex.join(words)} > out.log 2>&1 &"
    subprocess.run(["sh", "-c", line], cwd=tmp_path, check=True)
    end = time.monotonic() + PATIENCE
    (tmp_path / "out.log").touch()
    while "skipped" not in (tmp_path / "out.log").read_text():
        assert time.monotonic() < end
        time.sleep(0.2)
    assert len(list((tmp_path / "outputs").glob("*/result.json"))) == 2


@pytest.mark.fault(
    "a sweep killed with SIGKILL and typed again; one in which an algorithm raises and a run is killed",
    "every run ends once, as in an undisturbed sweep; the failing ones are told and stop nothing",
)
def test_kills_on_purpose(tmp_path: Path) -> None:
    """The script of docs/scale.md, on a grid of four."""
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
