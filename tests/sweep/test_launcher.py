"""Launchers of jobs: those that lose workers, and engines that give up."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from omegaconf import OmegaConf
from rich.console import Console

from helpers.results import write_result
from helpers.small_sweeps import TINY, Sslbench, add_broken, count, made_up_run, read
from hydra_plugins.sslbench_sweeper import LocalLauncher
from sslbench.errors import UserError
from sslbench.rundir.lock import FolderLockedError, run_lock
from sslbench.rundir.records import RunState
from sslbench.rundir.status import write_status
from sslbench.sweep.launcher import LauncherRunner, mark_killed
from sslbench.sweep.monitor import Monitor
from sslbench.sweep.run_process import RunFailedError


class Job:
    """What a launcher returns of a job that raised."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    @property
    def return_value(self) -> float:
        raise self._error


class Launcher:
    """Does to each run what `plan` says next, by the run's name."""

    def __init__(self, plan: dict[str, list[str]]) -> None:
        self.plan = plan
        self.launched: list[list[str]] = []

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[Any]:
        assert initial_job_idx == sum(map(len, self.launched))
        self.launched.append([overrides[0] for overrides in job_overrides])
        return [self._job(name) for name in self.launched[-1]]

    def _job(self, name: str) -> Any:
        fate = self.plan[name].pop(0)
        if fate in ("lost", "engine"):
            with run_lock(Path(name)):
                write_status(Path(name), "running", {})
        if fate in ("lost", "unborn"):
            raise BrokenProcessPool("a worker was terminated")
        if fate == "engine":
            raise RuntimeError("a job was lost")
        if fate == "failed":
            write_status(Path(name), "failed", {}, error="now")
            return Job(RunFailedError("now"))
        if fate == "locked":
            return Job(FolderLockedError("another process is training it"))
        if fate == "refused":
            return Job(UserError("a disk that nobody can write to"))
        write_result(Path(name), name)
        return SimpleNamespace(return_value=0.5)


class Sweep:
    """A sweep of runs with one letter each, carried out with a plan."""

    def __init__(self, plan: dict[str, list[str]], size: int | None = None, before: str = "") -> None:
        self.runs = []
        for name in plan:
            Path(name).mkdir()
            if before:
                write_status(Path(name), before, {}, error="of an earlier sweep")
            self.runs.append(made_up_run(Path(name).absolute(), name, name, steps=1))
        self.launcher = Launcher(plan)
        out = StringIO()
        monitor = Monitor(self.runs, len(self.runs), Console(file=out, width=200))
        launcher: Any = self.launcher
        LauncherRunner(launcher, Path.cwd(), monitor, size).run(self.runs)
        self.printed = out.getvalue()
        self.cannot_start = monitor.cannot_start
        monitor.print_outcome(0, [], Path.cwd())
        self.outcome = out.getvalue().removeprefix(self.printed)

    @property
    def states(self) -> dict[str, RunState]:
        return {run.run_id: run.state()[0] for run in self.runs}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def holding() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def test_batches() -> None:
    sweep = Sweep({name: ["ok"] for name in "abcde"}, 2)
    assert sweep.launcher.launched == [["a", "b"], ["c", "d"], ["e"]]
    assert set(sweep.states.values()) == {RunState.FINISHED}
    assert sweep.printed == ""


def test_what_was_under_way_is_tried_once_more_alone() -> None:
    sweep = Sweep({"a": ["ok"], "b": ["lost", "lost"], "c": ["ok"]})
    assert sweep.launcher.launched == [["a", "b", "c"], ["c"], ["b"]]
    assert sweep.states == {"a": RunState.FINISHED, "b": RunState.INTERRUPTED, "c": RunState.FINISHED}
    assert (
        "jobs were lost (BrokenProcessPool: a worker was terminated); 2 runs are started again"
        in sweep.printed
    )


def test_an_innocent_neighbour_finishes() -> None:
    sweep = Sweep({"a": ["lost", "ok"], "b": ["ok"]})
    assert sweep.launcher.launched == [["a", "b"], ["b"], ["a"]]
    assert set(sweep.states.values()) == {RunState.FINISHED}


def test_an_engine_that_gives_up_is_asked_again() -> None:
    sweep = Sweep({"a": ["engine", "ok"], "b": ["ok"]}, 1)
    assert sweep.launcher.launched == [["a"], ["b"], ["a"]]
    assert set(sweep.states.values()) == {RunState.FINISHED}
    assert "RuntimeError: a job was lost" in sweep.printed


def test_workers_that_never_begin_are_given_up() -> None:
    sweep = Sweep({"a": ["unborn"] * 9, "b": ["ok"]})
    assert sweep.launcher.launched == [["a", "b"], ["a", "b"]]
    assert set(sweep.states.values()) == {RunState.NOT_STARTED}
    assert "failed" not in sweep.outcome
    assert sweep.outcome.endswith(f"{sweep.cannot_start}\n")
    assert sweep.cannot_start.startswith(
        "the launcher cannot start jobs (BrokenProcessPool: a worker was terminated): "
    )
    assert sweep.printed == (
        "jobs were lost (BrokenProcessPool: a worker was terminated); 2 runs are started again\n"
    )


def test_a_run_that_is_not_handed_over_again_is_not_said_to_be() -> None:
    sweep = Sweep({"a": ["lost", "lost"]})
    lost = "jobs were lost (BrokenProcessPool: a worker was terminated)"
    assert sweep.printed.splitlines() == [f"{lost}; 1 run is started again", lost]
    assert sweep.cannot_start == ""


def test_what_another_process_trains_comes_last() -> None:
    sweep = Sweep({"a": ["locked", "ok"], "b": ["ok"], "c": ["ok"]}, 2)
    assert sweep.launcher.launched == [["a", "b"], ["c"], ["a"]]
    assert set(sweep.states.values()) == {RunState.FINISHED}


@pytest.mark.parametrize("fate", ["lost", "unborn", "locked"])
def test_what_failed_before_the_sweep_has_not_ended_in_it(fate: str) -> None:
    sweep = Sweep({"a": [fate, "ok"], "b": ["ok"], "c": ["ok"]}, before="failed")
    assert set(sweep.states.values()) == {RunState.FINISHED}


def test_what_failed_in_the_sweep_is_not_handed_over_again() -> None:
    sweep = Sweep({"a": ["failed"], "b": ["lost", "ok"], "c": ["ok"]}, before="failed")
    assert sweep.launcher.launched == [["a", "b", "c"], ["c"], ["b"]]
    assert sweep.states == {"a": RunState.FAILED, "b": RunState.FINISHED, "c": RunState.FINISHED}


def test_an_error_that_no_folder_holds_is_printed_and_counts_as_failed() -> None:
    sweep = Sweep({"a": ["refused"]})
    assert sweep.printed == "failed a: a disk that nobody can write to [a]\n"
    assert "failed: a: a disk that nobody can write to" in sweep.outcome


def test_a_stopped_sweep_launches_nothing() -> None:
    Path("stop").touch()
    assert Sweep({"a": ["ok"]}).launcher.launched == []


def test_what_is_locked_is_not_marked_as_killed(holding: ExitStack) -> None:
    runs = []
    for name in ("dead", "locked"):
        Path(name).mkdir()
        write_status(Path(name), "running", {})
        runs.append(made_up_run(Path(name), name))
    holding.enter_context(run_lock(Path("locked")))
    mark_killed(runs)
    assert [run.state()[0] for run in runs] == [RunState.INTERRUPTED, RunState.RUNNING]


def test_jobs_of_a_launcher_train_in_processes_of_their_own(
    sslbench: Sslbench, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Hydra's own launcher of one job after the other, used as those of Slurm and Ray are."""
    monkeypatch.setattr("sslbench.sweep.grid.BasicLauncher", LocalLauncher)
    monkeypatch.syspath_prepend(str(tmp_path))
    words = ["-m", *add_broken(tmp_path), *TINY, "seed=0"]
    assert sslbench(*words, "algorithm=supervised,broken,pi_model", "fail_fast=true") == 1
    out = capfd.readouterr().out
    assert "RuntimeError: made to fail [" in out
    assert [count(out, row) for row in ("finished", "failed", "not started")] == [1, 1, 1]
    pids = [read(path)["pid"] for path in Path("outputs").glob("*/status.json")]
    assert len({*pids, os.getpid()}) == 3


def test_a_worker_that_composes_another_run_refuses_it(
    sslbench: Sslbench,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    monkeypatch.setattr("sslbench.sweep.grid.BasicLauncher", LocalLauncher)
    numbers = iter(range(1000))
    OmegaConf.register_new_resolver("another", lambda: next(numbers), use_cache=False)
    request.addfinalizer(lambda: OmegaConf.clear_resolver("another"))
    assert sslbench("-m", *TINY, "algorithm=supervised", "seed=0,1", "split_seed=${another:}") == 1
    out = capfd.readouterr().out
    assert count(out, "failed") == 2
    found = re.findall(r"^failed (\S+): planned was (\S+), and the worker makes (\S+) of", out, re.MULTILINE)
    assert len(found) == 2
    assert all(name == plan != made for name, plan, made in found)
    assert [path.name for path in Path("outputs").iterdir()] == ["sweeps"]
