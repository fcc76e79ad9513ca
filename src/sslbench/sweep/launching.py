"""Handing cells to a launcher until each has ended, whatever becomes of the launcher's workers."""

from __future__ import annotations

import contextlib
import io
import math
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from multiprocessing import resource_tracker
from pathlib import Path
from typing import final

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from rich.console import Console

from sslbench.config.hydra_errors import in_quotes
from sslbench.errors import UserError
from sslbench.rundir.lock import is_locked, run_lock
from sslbench.rundir.status import describe, write_status
from sslbench.sweep.driver import DRIVER
from sslbench.sweep.monitor import counted, say
from sslbench.sweep.planned_run import Cell, Stamp, State
from sslbench.sweep.run_errors import ElsewhereError
from sslbench.sweep.sweep_folder import STOP
from sslbench.sweep.task import FOLDER, RUN
from sslbench.system.signals import signals_blocked

_POLL_SECONDS = 0.5
#: Times in a row that a launcher may lose jobs before any of them has begun.
_TRIES = 2


@final
class Launching:
    """Runs cells through one of Hydra's launchers.

    Workers die, and engines give up on all jobs for one that was lost. What had not ended is then handed
    over again. A cell that was under way is handed over alone: if its worker dies a second time, it is taken
    for the reason and left as interrupted.

    Attributes:
        errors: of cells that could not write them down themselves.
        broken: what keeps the launcher from starting any job, in a line; empty if nothing does.
        stop: a file that ends the sweep, once it is there.
    """

    def __init__(self, launcher: Launcher, sweep: Path, size: int | None, console: Console) -> None:
        """Take what to work with.

        Args:
            launcher: Hydra's.
            sweep: folder of the sweep.
            size: how many cells the launcher is handed at once; None for all.
            console: for what is to be told.
        """
        self.errors: dict[Cell, str] = {}
        self.broken = ""
        self.stop = sweep / STOP
        self._launcher = launcher
        self._sweep = sweep
        self._size = size
        self._console = console
        self._number = 0
        self._first: dict[Cell, Stamp] = {}
        of_joblib = hasattr(launcher, "joblib")
        self._start = _deaf_workers if of_joblib else contextlib.nullcontext
        self._trains_here = of_joblib or isinstance(launcher, BasicLauncher)

    def run(self, todo: Sequence[Cell]) -> None:
        """Run the cells; those that another process trains are come back to in the end."""
        waiting, suspects, elsewhere = list(todo), list[Cell](), list[Cell]()
        barren = 0
        self._first = {cell: cell.stamp() for cell in todo}
        while (waiting or suspects or elsewhere) and not self.stop.exists():
            alone = not waiting
            if waiting:
                batch = waiting[: self._size]
                waiting = waiting[len(batch) :]
            elif suspects:
                batch, suspects = suspects[:1], suspects[1:]
            else:
                wait_until_free(elsewhere, stop=self.stop)
                # Those that were not finished by the process that had them.
                waiting, elsewhere = [cell for cell in elsewhere if not self._has_ended(cell)], []
                continue
            before = {cell: cell.stamp() for cell in batch}
            error = self._launch(batch, elsewhere)
            if not error:
                continue
            begun = [cell for cell in batch if cell.stamp() != before[cell]]
            left = [cell for cell in batch if cell not in elsewhere and not self._has_ended(cell)]
            barren = 0 if begun else barren + 1
            if barren == _TRIES:
                self.broken = f"the launcher cannot start jobs ({error}): mend that, or give another launcher"
                return
            again = 0 if alone and begun else len(left)
            handed = f"; {counted(again, 'run is', 'runs are')} handed over again" if again else ""
            say(self._console, f"jobs were lost ({error}){handed}")
            elsewhere += [cell for cell in left if is_locked(cell.folder)]
            settle(left)
            if again:
                suspects += [cell for cell in left if cell in begun and cell not in elsewhere]
                waiting = [*(cell for cell in left if cell not in (*begun, *elsewhere)), *waiting]

    def _has_ended(self, cell: Cell) -> bool:
        """Whether it finished, or failed in this sweep: what failed before it is to be tried again."""
        state, _ = cell.state()
        return state == State.FINISHED or (state == State.FAILED and cell.stamp() != self._first[cell])

    def _launch(self, batch: Sequence[Cell], elsewhere: list[Cell]) -> str:
        """Launch one batch; returns the error of a launcher that lost jobs, in words."""
        # For workers whose environment and working directory are not those of the sweep.
        pinned = [
            f"hydra.sweep.dir={in_quotes(str(self._sweep))}",
            f"+hydra.job.env_set.{FOLDER}={in_quotes(str(Path.cwd()))}",
        ]
        if self._trains_here:
            pinned.append(f"+hydra.job.env_set.{DRIVER}={in_quotes(str(os.getpid()))}")
        run = f"+hydra.job.env_set.{RUN}="
        typed = [[*cell.overrides, *pinned, run + in_quotes(cell.run_id)] for cell in batch]
        try:
            with self._start():
                jobs = self._launcher.launch(typed, self._number)
        except BrokenExecutor as error:  # joblib appends a paragraph of what might be the reason
            return describe(error).partition(". ")[0]
        except Exception as error:  # whatever the engine behind the plugin raises
            return describe(error)
        finally:
            self._number += len(batch)
        for cell, job in zip(batch, jobs, strict=True):
            told = _error_of(job)
            if isinstance(told, ElsewhereError):
                elsewhere.append(cell)
            elif told is not None:
                self.errors[cell] = describe(told)
        return ""


@contextlib.contextmanager
def _deaf_workers() -> Iterator[None]:
    """Workers of joblib, started here, hear of no request to end: one that dies of it takes all along."""
    from joblib.externals.loky.backend import resource_tracker as of_joblib

    for tracker in (resource_tracker, of_joblib):
        tracker.ensure_running()  # now: where it starts its process, it unblocks signals
    with signals_blocked():
        yield


def _error_of(job: JobReturn) -> Exception | None:
    try:
        # Hydra prints a line of its own when it raises; the overview has told the error.
        with contextlib.redirect_stderr(io.StringIO()):
            _ = job.return_value
    except Exception as error:
        return error
    return None


def wait_until_free(cells: Iterable[Cell], seconds: float = math.inf, stop: Path | None = None) -> None:
    """Wait until no process trains any of the cells, the time is up, or a file `stop` appears."""
    end = time.monotonic() + seconds
    left = [cell for cell in cells if is_locked(cell.folder)]
    while left and time.monotonic() < end and not (stop and stop.exists()):
        time.sleep(_POLL_SECONDS)
        left = [cell for cell in left if is_locked(cell.folder)]


def settle(cells: Iterable[Cell]) -> None:
    """Write down which cells were killed without a word: nobody is left who would."""
    for cell in cells:
        if cell.in_folder()[0] != State.RUNNING or is_locked(cell.folder):
            continue
        # Another sweep may take it in this moment, and a full disk takes no word.
        with contextlib.suppress(UserError, OSError), run_lock(cell.folder):
            if cell.in_folder()[0] == State.RUNNING:
                error = cell.noted() or "killed, or its machine was lost (the same command goes on)"
                write_status(cell.folder, "interrupted", cell.summary, error=error)
