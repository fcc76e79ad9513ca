from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from sslbench.sweep.cells import Cell, State
from sslbench.sweep.overview import Overview, show_outcome

STEPS = 100


class Cells:
    """Cells whose files are written by hand."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def cell(self, name: str) -> Cell:
        folder = self.root / name
        folder.mkdir()
        return Cell(
            (f"name={name}",), folder, {"run_id": name, "steps": STEPS}, {}, self.root / f"{name}.txt"
        )

    @staticmethod
    def status(cell: Cell, status: str, **details: str) -> None:
        (cell.folder / "status.json").write_text(json.dumps({"status": status, **details}))

    @staticmethod
    def finish(cell: Cell) -> None:
        result = {"run_id": cell.run_id, "test_acc": 0.875}
        (cell.folder / "result.json").write_text(json.dumps(result))

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
        f"failed bad: out of [luck] [name=bad]; traceback in {bad.folder / 'job.log'}",
        "interrupted lost: killed [name=lost]",
        "[3/5] finished good: test acc 87.50%, 1 failed",
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
        "failed closed: a file is in the way [name=closed]",
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


def test_time_left_counts_steps(cells: Cells, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([0.0, 60.0, 60.0])
    monkeypatch.setattr("sslbench.sweep.overview.perf_counter", lambda: next(seconds))
    done, half, waiting = (cells.cell(name) for name in ("done", "half", "waiting"))
    cells.train(half, 20)  # by an earlier sweep
    overview = Overview([done, half, waiting], 3, console=plain())
    cells.status(half, "running")
    cells.train(half, 40)
    overview.look()
    cells.finish(done)
    overview.look()
    # 120 steps in 60 s; 60 and 100 are left
    assert "test acc 87.50%, about 0:01:20 left" in printed(overview.console)


def test_on_a_terminal_there_is_a_bar(cells: Cells) -> None:
    good, running = cells.cell("good"), cells.cell("running [red]")
    console = Console(file=StringIO(), width=120, force_terminal=True, color_system=None)
    with Overview([good, running], 2, console=console) as overview:
        cells.finish(good)
        cells.status(running, "running")
        cells.train(running, 50)
        overview.look()
    assert "1/2 runs" in printed(console)
    assert "1 running" in printed(console)
    assert "running [red]  step 50/100  val acc 75.00%" in printed(console)


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
