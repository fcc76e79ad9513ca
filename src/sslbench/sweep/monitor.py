"""A sweep as people watch it: how far it is, what failed and why, how long it will take."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from time import perf_counter
from typing import final

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sslbench.sweep.planned_run import Cell, State
from sslbench.sweep.worker import LOG
from sslbench.system.text import ellipsize, escape_control
from sslbench.tracking.console import format_duration, format_percent, stdout
from sslbench.tracking.jsonl import FILE_NAME, latest

_SECONDS = 1.0
#: Looking at the files may take this share of the time: thousands of cells may lie on a slow shared disk.
_SHARE = 0.05
_SHOWN = 8
_LISTED = 50
#: Columns from which there is a place for a bar.
_WIDE = 60
#: Columns from which there is one for what tells runs apart, and its characters.
_WIDER, _LONGEST = 100, 30
#: Keys whose values are in the name of a run.
_NAMED = ("algorithm", "loss", "dataset", "num_labels", "seed")
_ENDED = (State.FINISHED, State.FAILED, State.INTERRUPTED)


@final
class Overview:
    """Follows the cells of a sweep through the files that they write, wherever they run.

    On a terminal this is a bar with the running cells below it. Elsewhere it is one line for each cell that
    ends. A failure is told at once in both.

    Args:
        cells: that are about to be run.
        total: cells of the whole sweep; the others are done.
        console: where to print; by default stdout.
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        total: int,
        console: Console | None = None,
    ) -> None:
        self.console = console or stdout()
        self.states: dict[Cell, tuple[State, str]] = {}
        self._cells = list(cells)
        self._total = total
        self._words = _words(cells)
        # What an earlier sweep left in a folder is no news of this one.
        self._seen = {cell: cell.stamp() for cell in cells}
        self._mute = False
        self._first_steps = {cell: self._step(cell) for cell in cells}
        self._last_steps: dict[Cell, int] = {}  # of those that failed or were interrupted
        # When the first cell changed, and the steps done by then. Before that, workers import for long.
        self._began: tuple[float, int] | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._live = Live(console=self.console, auto_refresh=False) if self.console.is_interactive else None

    def __enter__(self) -> Overview:
        if self._live:
            self._live.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self.look()
        if self._live:
            self._live.stop()

    def look(self) -> None:
        """Read how the cells stand, tell what is new, and redraw."""
        news: dict[Cell, tuple[State, str]] = {}
        for cell in self._cells:
            state, _ = self.states.get(cell, (State.NOT_STARTED, ""))
            if state == State.FINISHED or (stamp := cell.stamp()) == self._seen[cell]:
                continue
            self._seen[cell] = stamp  # what failed or was interrupted may be tried again within the sweep
            news[cell] = state, _ = cell.state()
            if state in _ENDED:
                self._last_steps[cell] = self._step(cell)
        if news and self._began is None:
            self._began = perf_counter(), self._steps(self.states | news)[0]
        for cell, (state, error) in news.items():
            self.states[cell] = state, error
            if state in _ENDED:
                self._print(partial(self._tell, cell, state, error))
        if self._live:
            running = [cell for cell, (state, _) in self.states.items() if state == State.RUNNING]
            self._print(partial(self._redraw, running))

    def _print(self, draw: Callable[[], None]) -> None:
        """Print, and fall silent when whoever read the output has gone: the sweep is to be watched still."""
        if self._mute:
            return
        try:
            draw()
        except (OSError, SystemExit):  # rich exits on a broken pipe
            self._mute = True

    def _follow(self) -> None:
        pause = _SECONDS
        while not self._ended.wait(pause):
            began = perf_counter()
            self.look()
            pause = max(_SECONDS, (perf_counter() - began) / _SHARE)

    def _tell(self, cell: Cell, state: State, error: str) -> None:
        if state == State.FINISHED:
            if not self._live:
                accuracy = format_percent(cell.result().get("test_acc"))
                say(
                    self.console,
                    f"[{self._done()}/{self._total}] finished {cell}{self._apart(cell)}: "
                    f"test acc {accuracy}{self._rest()}",
                )
            return
        told = f"{state} {cell}"
        if error:
            told += f": {error} [{' '.join(cell.overrides)}]"
        if state == State.FAILED and not cell.noted():
            told += f"; traceback in {cell.folder / LOG}"
        say(self.console, told)

    def _apart(self, cell: Cell) -> str:
        return f" [{self._words[cell]}]" if self._words[cell] else ""

    def _done(self) -> int:
        counts = Counter(state for state, _ in self.states.values())
        return self._total - len(self._cells) + counts[State.FINISHED]

    def _rest(self) -> str:
        """Failures so far and the time left, in words."""
        words = filter(None, (self._failed(), self._left()))
        return "".join(f", {word}" for word in words)

    def _failed(self) -> str:
        failed = sum(state == State.FAILED for state, _ in self.states.values())
        return f"{failed} failed" if failed else ""

    def _left(self) -> str:
        """The time left, in words; empty until it can be told."""
        if self._began is None:
            return ""
        began, before = self._began
        done, todo = self._steps(self.states)
        if done <= before or not todo:
            return ""
        return f"about {format_duration((perf_counter() - began) * todo / (done - before))} left"

    def _steps(self, states: Mapping[Cell, tuple[State, str]]) -> tuple[int, int]:
        """Steps that were made in this sweep, and those to be made; cells half done count half."""
        done = todo = 0
        for cell in self._cells:
            state, _ = states.get(cell, (State.NOT_STARTED, ""))
            steps, first = int(cell.summary["steps"]), self._first_steps[cell]
            if state == State.FINISHED:
                now = steps
            elif state == State.RUNNING:
                now = self._step(cell)
                # It may have begun again from before its last log point.
                first = self._first_steps[cell] = min(first, now)
            else:
                now = self._last_steps.get(cell, 0)
            done += max(now - first, 0)
            if state in (State.NOT_STARTED, State.RUNNING):
                todo += steps - max(now, first)
        return done, todo

    @staticmethod
    def _step(cell: Cell) -> int:
        point = latest(cell.folder / FILE_NAME)
        step = point.get("step")
        return step if isinstance(step, int) else 0

    def _redraw(self, running: Sequence[Cell]) -> None:
        assert self._live is not None
        wide = self.console.width >= _WIDE
        done, count = self._done(), f"{len(running)} running"
        head = ", ".join(
            filter(None, (f"{done}/{self._total}{' runs' if wide else ''}", self._failed(), count))
        )
        frame = Table.grid(expand=True, padding=(0, 1, 0, 0))
        if wide:
            frame.add_column(ratio=1)
            frame.add_column(no_wrap=True)
            bar = ProgressBar(total=max(self._total, 1), completed=done)
            frame.add_row(bar, ", ".join(filter(None, (head, self._left()))))
        else:
            frame.add_column(no_wrap=True)
            for line in filter(None, (head, self._left())):
                frame.add_row(line)
        self._live.update(Group(frame, self._running(running, wide=wide)), refresh=True)

    def _running(self, running: Sequence[Cell], *, wide: bool) -> Table:
        rows: list[list[str]] = []
        for cell in running[:_SHOWN]:
            point, steps = latest(cell.folder / FILE_NAME), cell.summary["steps"]
            step = point.get("step", 0)
            if wide:
                accuracy = f"val acc {format_percent(point.get('val/acc'))}" if "val/acc" in point else ""
                words = [ellipsize(self._words[cell], _LONGEST)] if self.console.width >= _WIDER else []
                rows.append([escape_control(str(cell)), f"step {step}/{steps}", accuracy, *words])
            else:
                rows.append([escape_control(str(cell)), f"{100 * step // max(steps, 1)}%"])
        grid = Table.grid(padding=(0, 2))
        # What is cut is the middle of a name: seed and hash are at its end.
        room = self.console.width - max((sum(len(word) + 2 for word in row[1:]) for row in rows), default=0)
        for name, *words in rows:
            grid.add_row(*(Text(word, no_wrap=True) for word in (ellipsize(name, max(room, 3)), *words)))
        if len(running) > _SHOWN:
            grid.add_row(Text(f"and {len(running) - _SHOWN} more"))
        return grid


def _words(cells: Sequence[Cell]) -> dict[Cell, str]:
    """Of each cell, the overrides that others do not have and that its name does not tell."""
    counts = Counter(word for cell in cells for word in cell.overrides)
    return {
        cell: escape_control(
            " ".join(
                word
                for word in cell.overrides
                if counts[word] < len(cells) and word.partition("=")[0] not in _NAMED
            )
        )
        for cell in cells
    }


def show_outcome(
    finished: int,
    before: int,
    rest: Sequence[tuple[Cell, State, str]],
    console: Console | None = None,
    broken: str = "",
) -> None:
    """Print the table that ends a sweep, and what is not finished.

    Args:
        finished: cells that reached their end in this sweep.
        before: cells that were finished already, and skipped.
        rest: the others, with how they stand and why.
        console: where to print; by default stdout.
        broken: why those that were not started were not, if all have the same reason: told once.
    """
    console = console or stdout()
    counts = Counter(state for _, state, _ in rest)
    table = Table(show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    rows = {"finished": finished, "skipped, finished before": before}
    rows |= {str(state): counts[state] for state in State if counts[state]}
    for name, count in rows.items():
        table.add_row(name, str(count))
    console.print(table)
    listed = [entry for entry in rest if not broken or entry[1] != State.NOT_STARTED]
    lines = [f"{state}: {cell}" + (f": {error}" if error else "") for cell, state, error in listed]
    if len(lines) > _LISTED:
        lines[_LISTED:] = [f"and {len(lines) - _LISTED} more"]
    for line in [*lines, *([broken] if broken else [])]:
        say(console, line)


def counted(number: int, one: str, more: str) -> str:
    """A number and what is counted."""
    return f"{number} {one if number == 1 else more}"


def say(console: Console, line: str) -> None:
    """Print a line as it is: names may hold brackets, and paths are to be copied.

    Control characters, which a name or an error read from a file may hold, are shown as escapes.
    """
    console.print(escape_control(line), markup=False, highlight=False, soft_wrap=True)
