"""The run as people watch it: a progress bar on a terminal, plain lines in a log file."""

import os
import sys
from collections import deque
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from time import perf_counter
from typing import IO, Any, cast, final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from sslbench.system.text import escape_control
from sslbench.tracking.tracker import RunInfo

_REFRESH_SECONDS = 0.5
#: The step rate is taken over this many refreshes: long enough to be calm, short enough to forget warm-up.
_WINDOW = 60


@final
class ConsoleTracker:
    """Shows how far a run is, and its result in the end.

    On a terminal this is a progress bar, redrawn twice a second at most. Elsewhere it is one plain line for
    each log point that has ``val/acc``, flushed, so that a log file can be followed.

    Attributes:
        console: where to print; by default stdout.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or stdout()
        self._run: RunInfo | None = None
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._marks: deque[tuple[float, int]] = deque(maxlen=_WINDOW)
        self._next_refresh = 0.0
        self._latest: dict[str, float] = {}

    def start(self, run: RunInfo) -> None:
        self._run = run
        self._latest = {}
        self._marks.clear()
        self._mark(run.first_step)
        resumed = f", from step {run.first_step}" if run.first_step else ""
        self._print(f"{run.name}: {run.total_steps} steps{resumed}")
        if self.console.is_interactive:
            self._bar = Progress(
                BarColumn(bar_width=None),
                MofNCompleteColumn(),
                TextColumn("{task.description}", markup=False),
                console=self.console,
                # Redrawn from `advance`: a second thread would take turns with the training loop.
                auto_refresh=False,
                expand=True,
            )
            self._task = self._bar.add_task("", total=run.total_steps, completed=run.first_step)
            self._bar.start()

    def advance(self, step: int) -> None:
        if perf_counter() >= self._next_refresh:
            self._mark(step)
            self._redraw(step)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._latest.update(metrics)
        self._mark(step)
        if self._bar is not None:
            self._redraw(step)
        elif "val/acc" in metrics:
            assert self._run is not None, "log before start"
            total = self._run.total_steps
            self._print(f"step {step}/{total} ({step / total:.0%}), {self._describe(step)}")

    def close(self, status: str, result: Mapping[str, Any] | None) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        if status == "finished" and result is not None:
            assert self._run is not None, "close before start"
            show_result(result, self._run.run_dir, self.console)

    def _mark(self, step: int) -> None:
        now = perf_counter()
        self._marks.append((now, step))
        self._next_refresh = now + _REFRESH_SECONDS

    def _redraw(self, step: int) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=step, description=self._describe(step), refresh=True)

    def _describe(self, step: int) -> str:
        """The newest numbers, the speed and the time left."""
        assert self._run is not None
        latest = self._latest
        parts = [f"loss {latest['train/loss']:.4g}"] if "train/loss" in latest else []
        accuracies = {part: latest.get(f"{part}/acc") for part in ("val", "test")}
        parts += [f"{part} {format_percent(acc)}" for part, acc in accuracies.items() if acc is not None]
        (began, first), (now, last) = self._marks[0], self._marks[-1]
        if last > first and now > began:
            rate = (last - first) / (now - began)
            parts += [f"{rate:.1f} steps/s", f"{format_duration((self._run.total_steps - step) / rate)} left"]
        return ", ".join(parts)

    def _print(self, line: str) -> None:
        # Soft-wrapped: a log file has no width, and a path that is cut cannot be copied.
        self.console.print(escape_control(line), markup=False, highlight=False, soft_wrap=True)


def show_result(result: Mapping[str, Any], run_dir: Path, console: Console | None = None) -> None:
    """Print a run's ``result.json`` as a small table, its folder below it; by default on stdout."""
    console = console or stdout()
    rows = {
        "algorithm": result["algorithm"],
        "dataset": result["dataset"],
        "labels": result["num_labels"],
        "seed": result["seed"],
        "val acc, best": f"{format_percent(result['val_acc_best'])} @ step {result['step_best']}",
        "test acc at best val": format_percent(result["test_acc"]),
        "test acc, last": format_percent(result["test_acc_last"]),
        "test acc, median of 20": format_percent(result["test_acc_median20"]),
        "test ECE": format_percent(result["test_ece"]),
        "train time": format_duration(result["train_seconds"]),
        "steps/s": f"{result['steps_per_second']:.1f}",
    }
    table = Table(show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    for name, value in rows.items():
        table.add_row(name, Text(escape_control(str(value))))  # a bracket in a name is no markup
    console.print(table)
    console.print(escape_control(str(run_dir)), markup=False, highlight=False, soft_wrap=True)


class _Stream:
    """The process's present stdout; a lost terminal counts as a closed pipe."""

    def write(self, text: str) -> int:
        try:
            return sys.stdout.write(text)
        except OSError as error:
            raise BrokenPipeError from error

    def flush(self) -> None:
        try:
            sys.stdout.flush()
        except OSError as error:
            raise BrokenPipeError from error

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stdout, name)


class _Stdout(Console):
    """Falls silent when its reader is gone, where rich would end the process."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for other printing


def stdout() -> Console:
    """The process's stdout: interactive on a terminal only, silent once its reader is gone."""
    # FORCE_COLOR makes rich take a pipe for a terminal; colours may go there, a redrawn bar may not.
    stream = cast("IO[str]", _Stream())
    return _Stdout(file=stream, force_interactive=None if sys.stdout.isatty() else False)


def format_percent(fraction: float | None) -> str:
    """A fraction in percent; a dash for None."""
    return "-" if fraction is None else f"{100 * fraction:.2f}%"


def format_duration(seconds: float) -> str:
    """A duration as hours, minutes and seconds."""
    return str(timedelta(seconds=round(seconds)))
