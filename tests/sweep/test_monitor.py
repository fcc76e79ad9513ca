from __future__ import annotations

import json
import os
import re
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from helpers.results import write_result
from helpers.small_sweeps import count, made_up_run
from sslbench.sweep.monitor import Monitor
from sslbench.sweep.planned_run import PlannedRun

STEPS = 100


class Runs:
    """Runs whose files are written by hand."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(self, name: str, *words: str) -> PlannedRun:
        folder = self.root / name
        folder.mkdir()
        return made_up_run(folder, name, *words, f"seed={name}", steps=STEPS)

    @staticmethod
    def status(run: PlannedRun, status: str, **details: str) -> None:
        (run.folder / "status.json").write_text(json.dumps({"status": status, **details}))

    @staticmethod
    def finish(run: PlannedRun) -> None:
        write_result(run.folder, run.run_id, test_acc=0.875)

    @staticmethod
    def train(run: PlannedRun, step: int) -> None:
        (run.folder / "metrics.jsonl").write_text(
            json.dumps({"step": 10, "val/acc": 0.75}) + "\n" + json.dumps({"step": step}) + "\n"
        )


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


class Watched:
    """A monitor and what it prints."""

    def __init__(self, runs: list[PlannedRun], total: int, width: int = 200, terminal: bool = False) -> None:
        self.out = StringIO()
        console = Console(
            file=self.out, width=width, force_terminal=terminal, force_interactive=terminal, color_system=None
        )
        self.monitor = Monitor(runs, total, console)

    def look(self) -> None:
        self.monitor.look()

    @property
    def lines(self) -> list[str]:
        return self.out.getvalue().splitlines()


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture(autouse=True)
def _looks_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not each second, by a thread of its own, beside the test."""
    monkeypatch.setattr("sslbench.sweep.monitor._SECONDS", 3600.0)


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("sslbench.sweep.monitor.perf_counter", clock)
    return clock


def test_every_end_is_a_line(runs: Runs) -> None:
    good, bad, lost = (runs.run(name) for name in ("good", "bad", "lost"))
    watched = Watched([good, bad, lost], 5)
    watched.look()
    assert watched.lines == []
    runs.status(bad, "failed", error="out of [luck]")
    watched.look()
    watched.look()
    runs.status(lost, "interrupted", error="killed")
    watched.look()
    runs.finish(good)
    watched.look()
    assert watched.lines == [
        f"failed bad: out of [luck] [seed=bad]; traceback in {bad.folder / 'job.log'}",
        "interrupted lost: killed [seed=lost]",
        "[3/5] finished good: test acc 87.50%, 1 failed",
    ]


def test_what_a_name_does_not_say_is_printed(runs: Runs) -> None:
    slow = runs.run("slow", "algorithm=vat", "steps=50", "optimizer.lr=1e-4")
    fast = runs.run("fast", "algorithm=ict", "steps=50", "optimizer.lr=1e-3", "+a=[1]")
    watched = Watched([slow, fast], 2)
    runs.finish(slow)
    watched.look()
    runs.finish(fast)
    watched.look()
    assert watched.lines == [
        "[1/2] finished slow [optimizer.lr=1e-4]: test acc 87.50%",
        "[2/2] finished fast [optimizer.lr=1e-3 +a=[1]]: test acc 87.50%",
    ]


def test_an_error_that_the_folder_of_the_run_does_not_hold_counts_as_failed(runs: Runs) -> None:
    closed, good = runs.run("closed"), runs.run("good")
    watched = Watched([closed, good], 2)
    watched.monitor.report_error(closed, "a file is in the way")
    watched.look()
    runs.finish(good)
    watched.look()
    assert watched.lines == [
        "failed closed: a file is in the way [seed=closed]",
        "[1/2] finished good: test acc 87.50%, 1 failed",
    ]
    assert watched.monitor.print_outcome(0, [], runs.root) == 1
    assert (count(watched.out.getvalue(), "failed"), count(watched.out.getvalue(), "finished")) == (1, 1)
    assert "failed: closed: a file is in the way" in watched.lines
    runs.finish(closed)
    assert watched.monitor.print_outcome(0, [], runs.root) == 2


def test_what_was_there_before_is_no_news(runs: Runs) -> None:
    run = runs.run("again")
    runs.status(run, "failed", error="long ago")
    watched = Watched([run], 1)
    watched.look()
    runs.status(run, "running")
    watched.look()
    assert watched.lines == []
    runs.status(run, "failed", error="just now")
    watched.look()
    [line] = watched.lines
    assert line.startswith("failed again: just now")


def test_what_is_tried_again_within_the_sweep_is_printed_again(runs: Runs) -> None:
    run = runs.run("requeued")
    watched = Watched([run], 1)
    for status in ("interrupted", "running", "failed"):
        runs.status(run, status, error="now")
        watched.look()
    runs.finish(run)
    watched.look()
    assert [line.split()[0] for line in watched.lines] == ["interrupted", "failed", "[1/1]"]


def test_what_ends_at_once_is_counted_one_by_one(runs: Runs) -> None:
    names = ("one", "two", "three")
    found = [runs.run(name) for name in names]
    watched = Watched(found, 3)
    for run in found:
        runs.finish(run)
    watched.look()
    assert watched.lines == [
        f"[{number}/3] finished {name}: test acc 87.50%" for number, name in enumerate(names, start=1)
    ]


def test_time_left_counts_steps_from_the_first_change_on(runs: Runs, now: Clock) -> None:
    done, half, waiting = (runs.run(name) for name in ("done", "half", "waiting"))
    runs.train(half, 20)  # by an earlier sweep
    watched = Watched([done, half, waiting], 3)
    now.seconds = 25.0  # processes import
    watched.look()
    runs.status(half, "running")
    watched.look()
    now.seconds = 85.0
    runs.train(half, 40)
    runs.finish(done)
    watched.look()
    # 120 steps in 60 s; 60 and 100 are left
    assert watched.lines == ["[1/3] finished done: test acc 87.50%, about 0:01:20 left"]


@pytest.mark.parametrize("end", ["failed", "interrupted"])
def test_steps_of_runs_that_did_not_reach_their_end_are_work(end: str, runs: Runs, now: Clock) -> None:
    bad, done, waiting = (runs.run(name) for name in ("bad", "done", "waiting"))
    watched = Watched([bad, done, waiting], 3)
    runs.status(bad, "running")
    watched.look()
    now.seconds = 30.0
    runs.train(bad, 50)
    runs.status(bad, end)
    watched.look()
    now.seconds = 90.0
    runs.finish(done)
    watched.look()
    # 150 steps in 90 s; 100 are left
    assert watched.lines[-1].endswith(", about 0:01:00 left")


def test_the_last_run_has_a_place_for_itself(runs: Runs, now: Clock) -> None:
    """A rate of all runs together would halve its time."""
    short, long = runs.run("short"), runs.run("long")
    watched = Watched([short, long], 2)
    for run in (short, long):
        runs.status(run, "running")
        runs.train(run, 0)
    watched.look()
    now.seconds = 50.0
    runs.finish(short)
    runs.train(long, 50)
    watched.look()
    # 150 steps in 50 s on two places, and 50 steps left on one of them
    assert watched.lines == ["[1/2] finished short: test acc 87.50%, about 0:00:33 left"]


def test_the_runs_that_wait_are_laid_on_the_places(runs: Runs, now: Clock) -> None:
    done, half, *waiting = (runs.run(name) for name in ("done", "half", "one", "two"))
    watched = Watched([done, half, *waiting], 4)
    for run in (done, half):
        runs.status(run, "running")
        runs.train(run, 0)
    watched.look()
    now.seconds = 100.0
    runs.finish(done)
    runs.train(half, 50)
    watched.look()
    # 150 steps in 100 s on two places; one of these has 100 steps to make, the other 50 and 100
    assert watched.lines == ["[1/4] finished done: test acc 87.50%, about 0:03:20 left"]


def test_what_begins_again_before_its_last_point_has_all_of_it_to_do(runs: Runs, now: Clock) -> None:
    again, done, waiting = (runs.run(name) for name in ("again", "done", "waiting"))
    runs.train(again, 90)  # by an attempt that failed, of which no checkpoint is left
    watched = Watched([again, done, waiting], 3)
    runs.status(again, "running")
    runs.train(again, 0)
    watched.look()
    now.seconds = 60.0
    runs.train(again, 50)
    runs.finish(done)
    watched.look()
    # 150 steps in a minute, and 150 to go
    assert watched.lines[-1].endswith(", about 0:01:00 left")


def test_a_monitor_whose_reader_is_gone_falls_silent(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    reads, writes = os.pipe()
    os.close(reads)
    run = runs.run("good")
    with os.fdopen(writes, "w") as closed:
        monkeypatch.setattr("sys.stdout", closed)
        monitor = Monitor([run], 1)
        monitor.print("a line")
        runs.finish(run)
        monitor.look()
        assert monitor.print_outcome(0, [], runs.root) == 1


def test_on_a_terminal_there_is_a_bar_for_the_sweep_and_each_running_run(runs: Runs) -> None:
    good, running = runs.run("good"), runs.run("running [red]", "optimizer.lr=1e-3")
    watched = Watched([good, running], 2, width=120, terminal=True)
    with watched.monitor:
        runs.finish(good)
        runs.status(running, "running")
        runs.train(running, 50)
        watched.look()
    shown = watched.out.getvalue()
    assert re.search(r"1/2 runs, 1 running +━+", shown)
    assert re.search(r"running \[red\] +━+[^\n]* 50/100 steps, val acc 75.00%, optimizer.lr=1e-3", shown)
    assert "finished good" not in shown


@pytest.mark.parametrize("width", [24, 45, 80])
def test_on_a_narrow_terminal_the_count_stays(width: int, runs: Runs, now: Clock) -> None:
    names = [f"pseudo_label-fashion_mnist-1000-s{seed}-01234567" for seed in range(4)]
    bad, good, *running = (runs.run(name) for name in names)
    watched = Watched([bad, good, *running], 48, width=width, terminal=True)
    with watched.monitor:
        for run in running:
            runs.status(run, "running")
            runs.train(run, 50)
        watched.look()
        now.seconds = 60.0
        runs.status(bad, "failed")
        runs.finish(good)
        watched.look()
    lines = watched.lines
    [*_, row] = (index for index, line in enumerate(lines) if "45/48" in line)
    if width == 80:
        assert re.search(r"45/48 runs, 1 failed, 2 running +[━╸ ]+about 0:01:00 left", lines[row])
        for line, seed in zip(lines[row + 1 : row + 3], (2, 3), strict=True):
            assert re.search(rf"-s{seed}-01234567 +━.* 50/100 steps, val acc 75.00%", line)


def test_the_table_that_ends_a_sweep(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = [runs.run(f"bad{number}") for number in range(60)]
    done, lost, before = (runs.run(name) for name in ("done", "lost", "before"))
    for run in (*bad, before):
        runs.status(run, "failed", error="no [luck]")
    runs.finish(done)
    monkeypatch.chdir(runs.root)
    watched = Watched([lost, done, *bad], 67)
    assert watched.monitor.print_outcome(4, [before], runs.root / "sweeps" / "my sweep") == 5
    text = watched.out.getvalue()
    rows = ("finished", "skipped, finished before", "failed", "not started")
    assert [count(text, row) for row in rows] == [1, 4, 61, 1]
    assert watched.lines[6] == "failed: before: no [luck]"
    assert watched.lines[7] == "not started: lost"
    assert watched.lines[-3] == "failed: bad47: no [luck]"
    assert watched.lines[-2:] == ["and 12 more", "compare the runs: sslbench-report 'sweeps/my sweep'"]


def test_a_launcher_that_cannot_start_anything_is_said_once(runs: Runs) -> None:
    watched = Watched([runs.run(name) for name in ("one", "two")], 2)
    watched.monitor.cannot_start = "the launcher cannot start jobs"
    assert watched.monitor.print_outcome(0, [], runs.root) == 0
    assert count(watched.out.getvalue(), "not started") == 2
    assert watched.lines[-2].startswith("└")
    assert watched.lines[-1] == "the launcher cannot start jobs"
