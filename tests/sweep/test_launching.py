"""Launchers that lose workers, and engines that give up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from helpers.results import write_result
from sslbench.rundir.lock import run_lock
from sslbench.rundir.status import write_status
from sslbench.sweep.launching import Launching, settle
from sslbench.sweep.planned_run import Cell, State
from sslbench.sweep.run_errors import CellError, ElsewhereError


class Job:
    """What a launcher returns of a job that raised."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    @property
    def return_value(self) -> float:
        raise self._error


class Launcher:
    """Does to each cell what `plan` says next, by the cell's name."""

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
            raise BrokenProcessPool("A worker was terminated. This could be caused by many things.")
        if fate == "engine":
            raise RuntimeError("a job was lost")
        if fate == "failed":
            write_status(Path(name), "failed", {}, error="now")
            return Job(CellError("now"))
        if fate == "elsewhere":
            return Job(ElsewhereError("another process is training it"))
        if fate == "refused":
            return Job(CellError("a disk that nobody can write to"))
        write_result(Path(name), name)
        return SimpleNamespace(return_value=0.5)


class Sweep:
    """A sweep of cells with one letter each, run with a plan."""

    def __init__(self, plan: dict[str, list[str]], size: int | None = None, before: str = "") -> None:
        self.cells = []
        for name in plan:
            Path(name).mkdir()
            if before:
                write_status(Path(name), before, {}, error="of an earlier sweep")
            self.cells.append(Cell((name,), Path(name).absolute(), {"run_id": name, "steps": 1}, {}))
        self.launcher = Launcher(plan)
        out = StringIO()
        launcher: Any = self.launcher
        launching = Launching(launcher, Path.cwd(), size, Console(file=out, width=200))
        launching.run(self.cells)
        self.errors = {cell.run_id: error for cell, error in launching.errors.items()}
        self.broken = launching.broken
        self.said = out.getvalue()

    @property
    def states(self) -> dict[str, State]:
        return {cell.run_id: cell.state()[0] for cell in self.cells}


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
    assert set(sweep.states.values()) == {State.FINISHED}
    assert sweep.said == ""


def test_what_was_under_way_is_tried_once_more_alone() -> None:
    sweep = Sweep({"a": ["ok"], "b": ["lost", "lost"], "c": ["ok"]})
    assert sweep.launcher.launched == [["a", "b", "c"], ["c"], ["b"]]
    assert sweep.states == {"a": State.FINISHED, "b": State.INTERRUPTED, "c": State.FINISHED}
    assert (
        "jobs were lost (BrokenProcessPool: A worker was terminated); 2 runs are handed over again"
        in sweep.said
    )


def test_an_innocent_neighbour_finishes() -> None:
    sweep = Sweep({"a": ["lost", "ok"], "b": ["ok"]})
    assert sweep.launcher.launched == [["a", "b"], ["b"], ["a"]]
    assert set(sweep.states.values()) == {State.FINISHED}


def test_an_engine_that_gives_up_is_asked_again() -> None:
    sweep = Sweep({"a": ["engine", "ok"], "b": ["ok"]}, 1)
    assert sweep.launcher.launched == [["a"], ["b"], ["a"]]
    assert set(sweep.states.values()) == {State.FINISHED}
    assert "RuntimeError: a job was lost" in sweep.said


def test_workers_that_never_begin_are_given_up() -> None:
    sweep = Sweep({"a": ["unborn"] * 9, "b": ["ok"]})
    assert sweep.launcher.launched == [["a", "b"], ["a", "b"]]
    assert set(sweep.states.values()) == {State.NOT_STARTED}
    assert sweep.errors == {}
    assert sweep.broken.startswith(
        "the launcher cannot start jobs (BrokenProcessPool: A worker was terminated): "
    )
    assert sweep.said == (
        "jobs were lost (BrokenProcessPool: A worker was terminated); 2 runs are handed over again\n"
    )


def test_a_run_that_is_not_handed_over_again_is_not_said_to_be() -> None:
    sweep = Sweep({"a": ["lost", "lost"]})
    lost = "jobs were lost (BrokenProcessPool: A worker was terminated)"
    assert sweep.said.splitlines() == [f"{lost}; 1 run is handed over again", lost]
    assert sweep.broken == ""


def test_what_another_process_trains_comes_last() -> None:
    sweep = Sweep({"a": ["elsewhere", "ok"], "b": ["ok"], "c": ["ok"]}, 2)
    assert sweep.launcher.launched == [["a", "b"], ["c"], ["a"]]
    assert set(sweep.states.values()) == {State.FINISHED}


@pytest.mark.parametrize("fate", ["lost", "unborn", "elsewhere"])
def test_what_failed_before_the_sweep_has_not_ended_in_it(fate: str) -> None:
    sweep = Sweep({"a": [fate, "ok"], "b": ["ok"], "c": ["ok"]}, before="failed")
    assert set(sweep.states.values()) == {State.FINISHED}


def test_what_failed_in_the_sweep_is_not_handed_over_again() -> None:
    sweep = Sweep({"a": ["failed"], "b": ["lost", "ok"], "c": ["ok"]}, before="failed")
    assert sweep.launcher.launched == [["a", "b", "c"], ["c"], ["b"]]
    assert sweep.states == {"a": State.FAILED, "b": State.FINISHED, "c": State.FINISHED}


def test_an_error_that_no_file_holds_is_kept() -> None:
    sweep = Sweep({"a": ["refused"]})
    assert sweep.errors == {"a": "a disk that nobody can write to"}


def test_a_stopped_sweep_launches_nothing() -> None:
    Path("stop").touch()
    assert Sweep({"a": ["ok"]}).launcher.launched == []


def test_settling_leaves_alone_what_is_held(holding: ExitStack) -> None:
    cells = []
    for name in ("dead", "held"):
        Path(name).mkdir()
        write_status(Path(name), "running", {})
        cells.append(Cell((name,), Path(name), {"run_id": name, "steps": 1}, {}))
    holding.enter_context(run_lock(Path("held")))
    settle(cells)
    assert [cell.state()[0] for cell in cells] == [State.INTERRUPTED, State.RUNNING]
