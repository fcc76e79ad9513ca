"""The run as people watch it: a progress bar on a terminal, plain lines in a log file."""

import os
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from time import perf_counter
from typing import IO, Any, cast, final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Column, Table
from rich.text import Text

from sslbench.system.text import escape_control
from sslbench.tracking.tracker import RunInfo

_REFRESH_SECONDS = 0.5
_RATE_SECONDS = 300.0  # over which the step rate is taken


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
        self._latest: dict[str, float] = {}
        self._next_refresh = 0.0
        self._progress = Progress(
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.description}", markup=False),
            console=self.console,
            # Redrawn from `advance`: a second thread would take turns with the training loop.
            auto_refresh=False,
            expand=True,
            disable=not self.console.is_interactive,
            speed_estimate_period=_RATE_SECONDS,
            get_time=perf_counter,
        )

    def start(self, run: RunInfo) -> None:
        self._run_dir = run.run_dir
        resumed = f", from step {run.first_step}" if run.first_step else ""
        self._print(f"{run.name}: {run.total_steps} steps{resumed}")
        self._progress.add_task("", total=run.total_steps, completed=run.first_step)
        self._progress.start()

    def advance(self, step: int) -> None:
        if perf_counter() >= self._next_refresh:
            self._redraw(step)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self._latest.update(metrics)
        self._redraw(step)
        if self._progress.disable and "val/acc" in metrics:
            [task] = self._progress.tasks
            self._print(f"step {step}/{task.total:.0f} ({task.percentage:.0f}%), {task.description}")

    def close(self, status: str, result: Mapping[str, Any] | None) -> None:
        self._progress.stop()
        if status == "finished" and result is not None:
            show_result(result, self._run_dir, self.console)

    def _redraw(self, step: int) -> None:
        """Count the steps, and show the newest numbers, the speed and the time left."""
        self._next_refresh = perf_counter() + _REFRESH_SECONDS
        [task] = self._progress.tasks
        self._progress.update(task.id, completed=step)
        latest = self._latest
        parts = [f"loss {latest['train/loss']:.4g}"] if "train/loss" in latest else []
        accuracies = {part: latest.get(f"{part}/acc") for part in ("val", "test")}
        parts += [f"{part} {format_percent(acc)}" for part, acc in accuracies.items() if acc is not None]
        if task.speed is not None and task.time_remaining is not None:
            parts += [f"{task.speed:.1f} steps/s", f"{format_duration(task.time_remaining)} left"]
        self._progress.update(task.id, description=", ".join(parts), refresh=True)

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
    console.print(table_of(rows))
    console.print(escape_control(str(run_dir)), markup=False, highlight=False, soft_wrap=True)


def table_of(rows: Mapping[str, object]) -> Table:
    """A row for each name and value."""
    table = Table("name", Column("value", justify="right"), show_header=False)
    for name, value in rows.items():
        table.add_row(f"[bold]{name}", Text(escape_control(str(value))))  # a bracket in it is no markup
    return table


class _Stdout:
    """The process's present stdout; falls silent when its reader is gone; rich would end the process."""

    def write(self, text: str) -> int:
        try:
            print(end=text, flush=True)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for other printing too
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stdout, name)


def stdout() -> Console:
    """The process's stdout: interactive on a terminal only, silent once its reader is gone."""
    # FORCE_COLOR makes rich take a pipe for a terminal; colours may go there, a redrawn bar may not.
    stream = cast("IO[str]", _Stdout())
    return Console(file=stream, force_interactive=None if sys.stdout.isatty() else False)


def format_percent(fraction: float | None) -> str:
    """A fraction in percent; a dash for None."""
    return "-" if fraction is None else f"{100 * fraction:.2f}%"


def format_duration(seconds: float) -> str:
    """A duration as hours, minutes and seconds."""
    return str(timedelta(seconds=round(seconds)))
