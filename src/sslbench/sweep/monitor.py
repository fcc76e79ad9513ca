"""A sweep as people watch it: how far it is, what failed and why, how long it will take."""

from __future__ import annotations

import shlex
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import final

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Column, Table

from sslbench.rundir.records import RunState
from sslbench.sweep.planned_run import PlannedRun
from sslbench.sweep.run_process import LOG
from sslbench.sweep.time_left import TimeLeft
from sslbench.system.paths import relative
from sslbench.system.text import ellipsize, escape_control
from sslbench.tracking.console import format_duration, format_percent, stdout
from sslbench.tracking.jsonl import FILE_NAME, latest

_SECONDS = 1.0
#: Looking at the files may take this share of the time: thousands of runs may lie on a slow shared disk.
_SHARE = 0.05
#: Running runs with a bar of their own, and unfinished ones that are listed in the end.
_SHOWN, _LISTED = 8, 50
#: Columns from which a run's bar says what distinguishes it from others, its most characters, and of a bar.
_WIDE, _LONGEST, _BAR = 100, 30, 8
#: Keys whose values are in the name of a run.
_NAMED = ("algorithm", "loss", "dataset", "num_labels", "seed")
_ENDED = (RunState.FINISHED, RunState.FAILED, RunState.INTERRUPTED)


@final
class Monitor:
    """Follows the runs of a sweep through the files that they write, wherever they are carried out.

    On a terminal it shows a bar for the sweep and one for each running run. Elsewhere it prints a line for
    each run that ends. It prints a failure at once in both. Of the `total` runs of the sweep, those that are
    not in `runs` are done.

    Attributes:
        cannot_start: what keeps a launcher from starting any run, in one line; empty if nothing does.
    """

    def __init__(self, runs: Sequence[PlannedRun], total: int, console: Console | None = None) -> None:
        self.cannot_start = ""
        self._console = console or stdout()
        self._total = total
        self._differing = _differing(runs)
        self._states = dict.fromkeys(runs, RunState.NOT_STARTED)
        self._errors: dict[PlannedRun, str] = {}  # that no run's folder holds
        # What an earlier sweep left in a folder is no news of this one.
        self._stamps = {run: run.stamp() for run in runs}
        self._first_steps = {run: _step(run) for run in runs}
        self._last_steps: dict[PlannedRun, int] = {}  # of those that failed or were interrupted
        self._time_left = TimeLeft()
        self._has_begun = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._tasks: dict[PlannedRun, TaskID] = {}
        self._bars = None
        if self._console.is_interactive:
            self._bars = Progress(
                TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
                BarColumn(bar_width=None, table_column=Column(ratio=1)),
                TextColumn("{task.fields[figures]}", markup=False, table_column=Column(no_wrap=True)),
                console=self._console,
                auto_refresh=False,  # `look` redraws, so that all that is drawn is of one moment
                expand=True,
            )
            self._bars.add_task("", figures="")

    def __enter__(self) -> Monitor:
        if self._bars:
            self._bars.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self.look()
        if self._bars:
            self._bars.stop()

    def print(self, line: str) -> None:
        """Print a line as it is: names may hold brackets, and paths are to be copied.

        Control characters, which a name or an error read from a file may hold, are shown as escapes.
        """
        self._console.print(escape_control(line), markup=False, highlight=False, soft_wrap=True)

    def report_error(self, run: PlannedRun, error: str) -> None:
        """Print an error that the run's folder does not hold; the run counts as failed unless it finishes."""
        self._errors[run], self._states[run] = error, RunState.FAILED
        self.print(f"failed {run}: {error} [{' '.join(run.overrides)}]")

    def look(self) -> None:
        """Read how the runs stand, print what is new, and redraw."""
        done = self._done()
        news: dict[PlannedRun, str] = {}
        for run, stamp in self._stamps.items():
            if self._states[run] == RunState.FINISHED or (newest := run.stamp()) == stamp:
                continue
            self._stamps[run] = newest  # what failed or was interrupted may be tried again within the sweep
            self._states[run], news[run] = run.state()
            if self._states[run] in _ENDED:
                self._last_steps[run] = _step(run)
        running = [run for run, state in self._states.items() if state == RunState.RUNNING]
        made, remaining = self._steps()
        self._has_begun = self._has_begun or bool(news)
        if self._has_begun:
            self._time_left.update(perf_counter(), made, len(running), len(remaining))
        seconds = self._time_left.seconds(remaining)
        left = "" if seconds is None else f"about {format_duration(seconds)} left"
        for run, error in news.items():
            done += self._states[run] == RunState.FINISHED
            self._print_end(run, error, done, left)
        if self._bars:
            total = max(made + sum(remaining), 1)
            head = _joined(f"{done}/{self._total} runs", self._failed(), f"{len(running)} running")
            self._bars.update(
                self._bars.task_ids[0], description=head, total=total, completed=made, figures=left
            )
            self._redraw(self._bars, running[:_SHOWN])

    def print_outcome(self, finished_before: int, failed_before: Sequence[PlannedRun], folder: Path) -> int:
        """Print the table that ends a sweep, what is not finished, and how to look at the results.

        Those finished or failed before were not tried again. Returns how many runs are finished.
        """
        counts: Counter[str] = Counter({RunState.FINISHED: 0, "skipped, finished before": finished_before})
        lines = []
        for run in (*failed_before, *self._states):
            state, error = run.state()
            if run in self._errors and state != RunState.FINISHED:
                state, error = RunState.FAILED, self._errors[run]
            counts[state] += 1
            if state != RunState.FINISHED and not (self.cannot_start and state == RunState.NOT_STARTED):
                lines.append(f"{state}: {run}" + (f": {error}" if error else ""))
        table = Table(show_header=False)
        table.add_column(style="bold")
        table.add_column(justify="right")
        for name, number in counts.items():
            table.add_row(str(name), str(number))
        self._console.print(table)
        if len(lines) > _LISTED:
            lines[_LISTED:] = [f"and {len(lines) - _LISTED} more"]
        for line in filter(None, (*lines, self.cannot_start)):
            self.print(line)
        if finished := counts[RunState.FINISHED] + finished_before:
            self.print(f"compare the runs: sslbench-report {shlex.quote(relative(folder))}")
        return finished

    def _follow(self) -> None:
        pause = _SECONDS
        while not self._ended.wait(pause):
            began = perf_counter()
            self.look()
            pause = max(_SECONDS, (perf_counter() - began) / _SHARE)

    def _done(self) -> int:
        return self._total - sum(state != RunState.FINISHED for state in self._states.values())

    def _failed(self) -> str:
        failed = sum(state == RunState.FAILED for state in self._states.values())
        return f"{failed} failed" if failed else ""

    def _print_end(self, run: PlannedRun, error: str, done: int, left: str) -> None:
        state = self._states[run]
        if state == RunState.FINISHED and not self._bars:
            differing = f" [{self._differing[run]}]" if self._differing[run] else ""
            accuracy = format_percent(run.result().get("test_acc"))
            figures = _joined(f"test acc {accuracy}", self._failed(), left)
            self.print(f"[{done}/{self._total}] finished {run}{differing}: {figures}")
        elif state in (RunState.FAILED, RunState.INTERRUPTED):
            reason = f": {error} [{' '.join(run.overrides)}]" if error else ""
            log = f"; traceback in {run.folder / LOG}" if state == RunState.FAILED else ""
            self.print(f"{state} {run}{reason}{log}")

    def _steps(self) -> tuple[int, list[int]]:
        """Steps made in this sweep, and those that each run has still to make, running ones first."""
        made, running, waiting = 0, list[int](), list[int]()
        for run, state in self._states.items():
            steps, first = int(run.summary["steps"]), self._first_steps[run]
            if state == RunState.FINISHED:
                now = steps
            elif state == RunState.RUNNING:
                now = _step(run)
                # It may have begun again from before its last log point.
                first = self._first_steps[run] = min(first, now)
                running.append(steps - now)
            else:
                now = self._last_steps.get(run, 0)
                waiting += [steps - first] if state == RunState.NOT_STARTED else []
            made += max(now - first, 0)
        return made, running + waiting

    def _redraw(self, bars: Progress, running: Sequence[PlannedRun]) -> None:
        for run in self._tasks.keys() - set(running):
            bars.remove_task(self._tasks.pop(run))
        for run in running:
            point, steps = latest(run.folder / FILE_NAME), int(run.summary["steps"])
            step = _step(run)
            accuracy = f"val acc {format_percent(point['val/acc'])}" if "val/acc" in point else ""
            differing = ellipsize(self._differing[run], _LONGEST) if self._console.width >= _WIDE else ""
            figures = _joined(f"{step}/{steps} steps", accuracy, differing)
            # What is cut is the middle of a name: seed and hash are at its end.
            name = ellipsize(escape_control(str(run)), max(self._console.width - len(figures) - _BAR, 3))
            if run not in self._tasks:
                self._tasks[run] = bars.add_task("", total=max(steps, 1), figures="")
            bars.update(self._tasks[run], completed=step, description=name, figures=figures)
        bars.refresh()


def _step(run: PlannedRun) -> int:
    """The last step that the run has logged."""
    step = latest(run.folder / FILE_NAME).get("step")
    return step if isinstance(step, int) else 0


def _joined(*words: str) -> str:
    return ", ".join(filter(None, words))


def _differing(runs: Sequence[PlannedRun]) -> dict[PlannedRun, str]:
    """Of each run, the overrides that others do not have and that its name does not say."""
    counts = Counter(word for run in runs for word in run.overrides)

    def differs(word: str) -> bool:
        return counts[word] < len(runs) and word.partition("=")[0] not in _NAMED

    return {run: escape_control(" ".join(filter(differs, run.overrides))) for run in runs}


def count(number: int, one: str, more: str) -> str:
    """A number and what is counted."""
    return f"{number} {one if number == 1 else more}"
