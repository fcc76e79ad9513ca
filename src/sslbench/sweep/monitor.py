"""A sweep as people watch it: how far it is, what failed and why, how long it will take."""

from __future__ import annotations

import heapq
import shlex
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import final

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column

from sslbench.rundir.records import RunState
from sslbench.sweep.planned_run import PlannedRun
from sslbench.sweep.run_process import LOG
from sslbench.system.paths import relative
from sslbench.system.text import escape_control
from sslbench.tracking.console import format_duration, format_percent, stdout, table_of
from sslbench.tracking.jsonl import FILE_NAME, latest

_SECONDS = 1.0
#: Looking at the files may take this share of the time: thousands of runs may lie on a slow shared disk.
_SHARE = 0.05
#: Running runs with a bar of their own, and unfinished ones that are listed in the end.
_SHOWN, _LISTED = 8, 50
#: Keys whose values are in the name of a run.
_NAMED = ("algorithm", "loss", "dataset", "num_labels", "seed")


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
        self._typed = Counter(word for run in runs for word in run.settings.overrides)
        self._states = dict.fromkeys(runs, RunState.NOT_STARTED)
        self._errors: dict[PlannedRun, str] = {}  # that no run's folder holds
        # What an earlier sweep left in a folder is no news of this one.
        self._stamps = {run: run.stamp() for run in runs}
        self._first_steps = {run: _step(run) for run in runs}
        self._steps = dict(self._first_steps)
        self._places, self._place_seconds = 1, 0.0  # on which runs train, and the time of all of them
        self._then: float | None = None  # the time of the last look
        self._unended = 0  # runs, at that time
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        line = Column(no_wrap=True, overflow="ellipsis")
        self._bars = Progress(
            TextColumn("{task.description}", markup=False, table_column=line),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[figures]}", markup=False, table_column=line),
            console=self._console,
            auto_refresh=False,  # `look` redraws, so that all that is drawn is of one moment
            disable=not self._console.is_interactive,
        )

    def __enter__(self) -> Monitor:
        self._bars.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self.look()
        self._bars.stop()

    def print(self, line: str) -> None:
        """Print a line as it is: names may hold brackets, and paths are to be copied.

        Control characters, which a name or an error read from a file may hold, are shown as escapes.
        """
        self._console.print(escape_control(line), markup=False, highlight=False, soft_wrap=True)

    def report_error(self, run: PlannedRun, error: str) -> None:
        """Print an error that the run's folder does not hold; the run counts as failed unless it finishes."""
        self._errors[run], self._states[run] = error, RunState.FAILED
        self.print(f"failed {run}: {error} [{' '.join(run.settings.overrides)}]")

    def look(self) -> None:
        """Read how the runs stand, print what is new, and redraw."""
        done = self._total - sum(state != RunState.FINISHED for state in self._states.values())
        news: dict[PlannedRun, str] = {}
        for run, stamp in self._stamps.items():
            if self._states[run] == RunState.FINISHED:
                continue
            if (newest := run.stamp()) != stamp:
                self._stamps[run] = newest  # what failed or was interrupted may be tried again
                self._states[run], news[run] = run.state()
            if run in news or self._states[run] == RunState.RUNNING:
                finished = self._states[run] == RunState.FINISHED
                self._steps[run] = run.summary["steps"] if finished else _step(run)
                # It may have begun again from before its last log point.
                self._first_steps[run] = min(self._first_steps[run], self._steps[run])
        running = [run for run, state in self._states.items() if state == RunState.RUNNING]
        waiting = [run for run, state in self._states.items() if state == RunState.NOT_STARTED]
        remaining = [run.summary["steps"] - self._steps[run] for run in (*running, *waiting)]
        made = sum(self._steps.values()) - sum(self._first_steps.values())
        left = self._time_left(made, len(running), remaining) if news or self._then is not None else ""
        for run, error in news.items():
            done += self._states[run] == RunState.FINISHED
            self._print_end(run, error, done, left)
        head = _joined(f"{done}/{self._total} runs", self._failed(), f"{len(running)} running")
        self._redraw(running[:_SHOWN], head, made, made + sum(remaining), left)

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
        self._console.print(table_of(counts))
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

    def _time_left(self, made: int, running: int, remaining: Sequence[int]) -> str:
        """About how long the rest takes, by the steps made so far on each place where runs train.

        The clock starts with the first change of any run: before that, processes import for long. The time
        between two runs of a place counts. The steps that each run has still to make are laid on the places
        one after the other: the last runs, with fewer side by side, take longer.
        """
        now = perf_counter()
        if self._then is None:
            self._then, self._first_steps, made = now, dict(self._steps), 0
        self._places = max(self._places, running)
        self._place_seconds += (now - self._then) * min(self._places, self._unended)
        self._then, self._unended = now, len(remaining)
        if made <= 0 or not remaining:
            return ""
        places = [0] * self._places
        for steps in remaining:
            heapq.heapreplace(places, places[0] + steps)
        return f"about {format_duration(max(places) * self._place_seconds / made)} left"

    def _failed(self) -> str:
        failed = sum(state == RunState.FAILED for state in self._states.values())
        return f"{failed} failed" if failed else ""

    def _print_end(self, run: PlannedRun, error: str, done: int, left: str) -> None:
        state = self._states[run]
        if state == RunState.FINISHED and self._bars.disable:
            differing = f" [{words}]" if (words := self._differing(run)) else ""
            accuracy = format_percent(run.result().get("test_acc"))
            figures = _joined(f"test acc {accuracy}", self._failed(), left)
            self.print(f"[{done}/{self._total}] finished {run}{differing}: {figures}")
        elif state in (RunState.FAILED, RunState.INTERRUPTED):
            reason = f": {error} [{' '.join(run.settings.overrides)}]" if error else ""
            log = f"; traceback in {run.folder / LOG}" if state == RunState.FAILED else ""
            self.print(f"{state} {run}{reason}{log}")

    def _redraw(self, running: Sequence[PlannedRun], head: str, made: int, total: int, left: str) -> None:
        for bar in self._bars.task_ids:
            self._bars.remove_task(bar)
        self._bars.add_task(head, completed=made, total=total, figures=left)
        for run in running:
            point, step, steps = latest(run.folder / FILE_NAME), self._steps[run], run.summary["steps"]
            accuracy = f"val acc {format_percent(point['val/acc'])}" if "val/acc" in point else ""
            figures = _joined(f"{step}/{steps} steps", accuracy, self._differing(run))
            self._bars.add_task(escape_control(str(run)), completed=step, total=steps, figures=figures)
        self._bars.refresh()

    def _differing(self, run: PlannedRun) -> str:
        """The overrides of the run that others do not have and that its name does not say."""
        words = [word for word in run.settings.overrides if self._typed[word] < len(self._states)]
        return escape_control(" ".join(word for word in words if word.partition("=")[0] not in _NAMED))


def _step(run: PlannedRun) -> int:
    """The last step that the run has logged."""
    step = latest(run.folder / FILE_NAME).get("step")
    return step if isinstance(step, int) else 0


def _joined(*words: str) -> str:
    return ", ".join(filter(None, words))


def count(number: int, one: str, more: str) -> str:
    """A number and what is counted."""
    return f"{number} {one if number == 1 else more}"
