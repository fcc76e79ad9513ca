from __future__ import annotations

import json
import re
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from helpers.results import write_result
from sslbench.sweep.monitor import Overview, show_outcome
from sslbench.sweep.planned_run import Cell, State

STEPS = 100


class Cells:
    """Cells whose files are written by hand."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def cell(self, name: str, *words: str) -> Cell:
        folder = self.root / name
        folder.mkdir()
        return Cell(
            (*words, f"seed={name}"), folder, {"run_id": name, "steps": STEPS}, {}, self.root / f"{name}.txt"
        )

    @staticmethod
    def status(cell: Cell, status: str, **details: str) -> None:
        (cell.folder / "status.json").write_text(json.dumps({"status": status, **details}))

    @staticmethod
    def finish(cell: Cell) -> None:
        write_result(cell.folder, cell.run_id, test_acc=0.875)

    @staticmethod
    def train(cell: Cell, step: int) -> None:
        (cell.folder / "metrics.jsonl").write_text(
            json.dumps({"step": 10, "val/acc": 0.75}) + "\n" + json.dumps({"step": step}) + "\n"
        )


@pytest.fixture
def cells(tmp_path: Path) -> Cells:
    return Cells(tmp_path)


def plain() -> Console:
    return Console(file=StringIO(), width=200, force_interactive=False)


def printed(console: Console) -> str:
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_every_end_is_a_line(cells: Cells) -> None:
    good, bad, lost = (cells.cell(name) for name in ("good", "bad", "lost"))
    overview = Overview([good, bad, lost], 5, console=plain())
    overview.look()
    assert printed(overview.console) == ""
    cells.status(bad, "failed", error="out of [luck]")
    overview.look()
    overview.look()
    cells.status(lost, "interrupted", error="killed")
    overview.look()
    cells.finish(good)
    overview.look()
    lines = printed(overview.console).splitlines()
    assert lines == [
        f"failed bad: out of [luck] [seed=bad]; traceback in {bad.folder / 'job.log'}",
        "interrupted lost: killed [seed=lost]",
        "[3/5] finished good: test acc 87.50%, 1 failed",
    ]


def test_what_a_name_does_not_tell_is_told(cells: Cells) -> None:
    slow = cells.cell("slow", "algorithm=vat", "steps=50", "optimizer.lr=1e-4")
    fast = cells.cell("fast", "algorithm=ict", "steps=50", "optimizer.lr=1e-3", "+a=[1]")
    overview = Overview([slow, fast], 2, console=plain())
    cells.finish(slow)
    overview.look()
    cells.finish(fast)
    overview.look()
    assert printed(overview.console).splitlines() == [
        "[1/2] finished slow [optimizer.lr=1e-4]: test acc 87.50%",
        "[2/2] finished fast [optimizer.lr=1e-3 +a=[1]]: test acc 87.50%",
    ]


def test_an_error_that_the_folder_of_the_run_does_not_hold_is_told_at_once(cells: Cells) -> None:
    closed, good = cells.cell("closed"), cells.cell("good")
    overview = Overview([closed, good], 2, console=plain())
    assert closed.note is not None
    closed.note.write_text("a file is in the way\n")
    overview.look()
    overview.look()
    cells.finish(good)
    overview.look()
    assert printed(overview.console).splitlines() == [
        "failed closed: a file is in the way [seed=closed]",
        "[1/2] finished good: test acc 87.50%, 1 failed",
    ]


def test_what_was_there_before_is_no_news(cells: Cells) -> None:
    cell = cells.cell("again")
    cells.status(cell, "failed", error="long ago")
    overview = Overview([cell], 1, console=plain())
    overview.look()
    assert printed(overview.console) == ""
    cells.status(cell, "running")
    overview.look()
    assert overview.states[cell] == (State.RUNNING, "")
    cells.status(cell, "failed", error="just now")
    overview.look()
    assert "failed again: just now" in printed(overview.console)


def test_what_is_tried_again_within_the_sweep_is_told_again(cells: Cells) -> None:
    cell = cells.cell("requeued")
    overview = Overview([cell], 1, console=plain())
    for status in ("interrupted", "running", "failed"):
        cells.status(cell, status, error="now")
        overview.look()
    cells.finish(cell)
    overview.look()
    assert [line.split()[0] for line in printed(overview.console).splitlines()] == [
        "interrupted",
        "failed",
        "[1/1]",
    ]


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


def test_time_left_counts_steps_from_the_first_change_on(cells: Cells, now: Clock) -> None:
    done, half, waiting = (cells.cell(name) for name in ("done", "half", "waiting"))
    cells.train(half, 20)  # by an earlier sweep
    overview = Overview([done, half, waiting], 3, console=plain())
    now.seconds = 25.0  # workers import
    overview.look()
    cells.status(half, "running")
    overview.look()
    now.seconds = 85.0
    cells.train(half, 40)
    cells.finish(done)
    overview.look()
    # 120 steps in 60 s; 60 and 100 are left
    assert "test acc 87.50%, about 0:01:20 left" in printed(overview.console)


@pytest.mark.parametrize("end", ["failed", "interrupted"])
def test_steps_of_runs_that_did_not_reach_their_end_are_work(end: str, cells: Cells, now: Clock) -> None:
    bad, done, waiting = (cells.cell(name) for name in ("bad", "done", "waiting"))
    overview = Overview([bad, done, waiting], 3, console=plain())
    cells.status(bad, "running")
    overview.look()
    now.seconds = 30.0
    cells.train(bad, 50)
    cells.status(bad, end)
    overview.look()
    now.seconds = 90.0
    cells.finish(done)
    overview.look()
    # 150 steps in 90 s; 100 are left
    assert ", about 0:01:00 left" in printed(overview.console)


def test_what_had_been_done_at_the_first_look_says_nothing_of_speed(cells: Cells, now: Clock) -> None:
    quick, next_one, waiting = (cells.cell(name) for name in ("quick", "next", "waiting"))
    overview = Overview([quick, next_one, waiting], 3, console=plain())
    now.seconds = 25.0
    cells.finish(quick)
    overview.look()
    now.seconds = 35.0
    cells.finish(next_one)
    overview.look()
    first, second = printed(overview.console).splitlines()
    assert first == "[1/3] finished quick: test acc 87.50%"
    assert second == "[2/3] finished next: test acc 87.50%, about 0:00:10 left"


def test_what_ends_at_once_is_counted_one_by_one(cells: Cells) -> None:
    names = ("one", "two", "three")
    found = [cells.cell(name) for name in names]
    overview = Overview(found, 3, console=plain())
    for cell in found:
        cells.finish(cell)
    overview.look()
    assert printed(overview.console).splitlines() == [
        f"[{number}/3] finished {name}: test acc 87.50%" for number, name in enumerate(names, start=1)
    ]


def terminal(width: int) -> Console:
    return Console(file=StringIO(), width=width, force_terminal=True, color_system=None)


def test_on_a_terminal_there_is_a_bar(cells: Cells) -> None:
    good, running = cells.cell("good"), cells.cell("running [red]", "optimizer.lr=1e-3")
    with Overview([good, running], 2, console=terminal(120)) as overview:
        cells.finish(good)
        cells.status(running, "running")
        cells.train(running, 50)
        overview.look()
    shown = printed(overview.console)
    assert re.search(r"━━ +1/2 runs, 1 running\n", shown)
    assert "running [red]  step 50/100  val acc 75.00%  optimizer.lr=1e-3" in shown


@pytest.mark.parametrize("width", [24, 30, 45, 60, 80])
def test_on_a_narrow_terminal_the_count_stays(width: int, cells: Cells, now: Clock) -> None:
    names = [f"pseudo_label-fashion_mnist-1000-s{seed}-01234567" for seed in range(4)]
    bad, good, *running = (cells.cell(name) for name in names)
    with Overview([bad, good, *running], 48, console=terminal(width)) as overview:
        for cell in running:
            cells.status(cell, "running")
            cells.train(cell, 50)
        overview.look()
        now.seconds = 60.0
        cells.status(bad, "failed")
        cells.finish(good)
        overview.look()
    lines = printed(overview.console).splitlines()
    head = "45/48 runs" if width >= 60 else "45/48"
    [*_, count] = (index for index, line in enumerate(lines) if f"{head}, 1 failed, 2 runn" in line)
    assert ("━" in lines[count]) == (width >= 60)
    assert any("about 0:01:00 left" in line for line in lines[count : count + 2])
    if width >= 30:
        assert "2 running" in lines[count]
        for line, seed in zip([line for line in lines[count:] if "pseudo" in line], (2, 3), strict=True):
            assert f"-s{seed}-01234567  " in line
            assert ("step 50/100  val acc 75.00%" if width >= 60 else "50%") in line


def test_the_table_that_ends_a_sweep(cells: Cells) -> None:
    bad = [(cells.cell(f"bad{number}"), State.FAILED, "no [luck]") for number in range(60)]
    lost = (cells.cell("lost"), State.NOT_STARTED, "")
    console = plain()
    show_outcome(3, 4, [lost, *bad], console)
    text = printed(console)
    for words in (
        "finished",
        " 3 ",
        "skipped, finished before",
        " 4 ",
        "failed",
        " 60 ",
        "not started: lost\n",
    ):
        assert words in text
    assert "failed: bad48: no [luck]" in text
    assert text.endswith("and 11 more\n")
    show_outcome(3, 4, [lost, *bad[:1]], console, "the launcher cannot start jobs")
    assert printed(console).endswith("failed: bad0: no [luck]\nthe launcher cannot start jobs\n")


def test_what_begins_again_before_its_last_point_has_all_of_it_to_do(cells: Cells, now: Clock) -> None:
    again, waiting = cells.cell("again"), cells.cell("waiting")
    cells.train(again, 90)  # by an attempt that failed, of which no checkpoint is left
    overview = Overview([again, waiting], 2, console=plain())
    cells.status(again, "running")
    cells.train(again, 0)
    overview.look()
    now.seconds = 60.0
    cells.train(again, 50)
    # 50 steps in a minute, and 150 to go.
    assert overview._left() == "about 0:03:00 left"
