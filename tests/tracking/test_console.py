from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sslbench.tracking import ConsoleTracker, RunInfo, show_result

MakeRun = Callable[..., RunInfo]


class Clock:
    """Stands still until it is told otherwise."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    clock = Clock()
    monkeypatch.setattr("sslbench.tracking.console.perf_counter", clock)
    return clock


def plain() -> Console:
    return Console(file=StringIO(), _environ={})


def terminal() -> Console:
    return Console(file=StringIO(), force_terminal=True, width=120, _environ={"TERM": "xterm"})


def printed(console: Console) -> str:
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_plain_lines_where_there_is_no_terminal(make_run: MakeRun, clock: Clock) -> None:
    console = plain()
    tracker = ConsoleTracker(console)
    tracker.start(make_run())
    for step in range(1, 51):
        clock.now += 0.5
        tracker.advance(step)
        if step % 25 == 0:
            tracker.log(step, {"train/loss": 0.123456})
    tracker.log(50, {"train/loss": 0.25, "val/acc": 0.9, "test/acc": 0.875})
    tracker.close("interrupted", None)
    assert printed(console).splitlines() == [
        "pi_model-mse-digits-100-s0: 100 steps",
        "step 50/100 (50%), loss 0.25, val 90.00%, test 87.50%, 2.0 steps/s, 0:00:25 left",
    ]


def test_a_resumed_run_measures_only_its_own_steps(make_run: MakeRun, clock: Clock) -> None:
    console = plain()
    tracker = ConsoleTracker(console)
    tracker.start(make_run(first_step=60))
    tracker.advance(61)
    clock.now += 9.5
    tracker.log(80, {"val/acc": 0.5})
    tracker.close("failed", None)
    assert printed(console).splitlines() == [
        "pi_model-mse-digits-100-s0: 100 steps, from step 60",
        "step 80/100 (80%), val 50.00%, 2.0 steps/s, 0:00:10 left",
    ]


def test_the_rate_forgets_a_slow_start(make_run: MakeRun, clock: Clock) -> None:
    console = plain()
    tracker = ConsoleTracker(console)
    tracker.start(make_run(total_steps=1000))
    clock.now += 600
    for step in range(1, 101):
        clock.now += 1
        tracker.advance(step)
    tracker.log(100, {"val/acc": 0.5})
    tracker.close("failed", None)
    assert "1.0 steps/s, 0:15:" in printed(console)


def test_a_bar_on_a_terminal(make_run: MakeRun, clock: Clock) -> None:
    console = terminal()
    tracker = ConsoleTracker(console)
    tracker.start(make_run())
    tracker.advance(1)
    clock.now += 9.75
    tracker.log(40, {"train/loss": 0.25, "val/acc": 0.9, "test/acc": 0.875})
    tracker.close("failed", None)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", printed(console))
    assert "40/100" in text
    assert "loss 0.25, val 90.00%, test 87.50%, 4.0 steps/s, 0:00:15 left" in text
    assert "━" in text
    assert "algorithm" not in text
    assert printed(console).rstrip().endswith("\x1b[?25h"), "the cursor is shown again"


def test_the_bar_is_redrawn_twice_a_second_at_most(make_run: MakeRun, clock: Clock) -> None:
    console = terminal()
    tracker = ConsoleTracker(console)
    tracker.start(make_run(total_steps=10_000))
    for step in range(1, 5_001):
        clock.now += 0.001
        tracker.advance(step)
    redrawn = re.findall(r"(\d+)/10000", printed(console))
    tracker.close("failed", None)
    assert 8 <= len(redrawn) <= 12  # five seconds
    assert len(set(redrawn)) >= 8


def test_a_forced_colour_does_not_bring_a_bar_into_a_pipe(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    tracker = ConsoleTracker()
    tracker.start(make_run())
    tracker.log(50, {"val/acc": 0.5})
    tracker.close("failed", None)
    out = capsys.readouterr().out
    assert "step 50/100" in out
    assert "━" not in out


@pytest.mark.parametrize("make_console", [plain, terminal])
def test_the_result_of_a_finished_run(
    make_run: MakeRun, result: dict[str, Any], make_console: Callable[[], Console]
) -> None:
    console = make_console()
    run = make_run(run_dir=Path("outputs/[bold]" + "deep/" * 40))
    tracker = ConsoleTracker(console)
    tracker.start(run)
    tracker.close("finished", result)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", printed(console))
    for row in [
        r"algorithm\W+pi_model",
        r"dataset\W+digits",
        r"labels\W+100",
        r"seed\W+0",
        r"val acc, best\W+93\.75% @ step 75",
        r"test acc at best val\W+92\.1[23]%",
        r"test acc, last\W+91\.00%",
        r"test acc, median of 20\W+91\.50%",
        r"test ECE\W+3\.21%",
        r"train time\W+0:01:23",
        r"steps/s\W+1\.2",
    ]:
        assert re.search(row, text), row
    assert text.splitlines()[-1] == str(run.run_dir), "one line, so that it can be copied"


@pytest.mark.parametrize("status", ["failed", "interrupted"])
def test_no_result_unless_finished(make_run: MakeRun, result: dict[str, Any], status: str) -> None:
    console = plain()
    tracker = ConsoleTracker(console)
    tracker.start(make_run())
    tracker.close(status, result)
    assert len(printed(console).splitlines()) == 1


def test_a_found_result_is_shown_on_stdout(
    result: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    show_result(result | {"test_ece": None}, tmp_path)
    out = capsys.readouterr().out
    assert "93.75% @ step 75" in out
    assert re.search(r"test ECE\W+- ", out)
    assert str(tmp_path) in out
