"""Carrying out runs through one of Hydra's launchers (Slurm, Ray), whatever becomes of its workers."""

import contextlib
import io
import math
import time
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import final

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher

from sslbench.config.hydra_errors import in_quotes
from sslbench.errors import UserError, in_one_line
from sslbench.rundir.lock import FolderLockedError, is_locked, run_lock
from sslbench.rundir.records import RunState
from sslbench.rundir.status import write_status
from sslbench.sweep.monitor import Monitor, count
from sslbench.sweep.planned_run import PlannedRun
from sslbench.sweep.run_process import (
    GRACE_SECONDS,
    POLL_SECONDS,
    STOP,
    RunFailedError,
    RunInterruptedError,
)
from sslbench.sweep.task import FOLDER, RUN

#: Times in a row that a launcher may lose jobs before any of them has begun.
_FAILED_STARTS = 2


@final
class LauncherRunner:
    """Carries out runs as jobs of a launcher.

    Workers die, and some engines give up on all jobs when one is lost. The launcher is then given again what
    had not ended. A run that had begun is given again alone, and only once: if its worker dies a second time,
    the run is taken for the reason and stays interrupted. The launcher is given at most `batch_size` runs at
    once; None for all.
    """

    def __init__(self, launcher: Launcher, sweep: Path, monitor: Monitor, batch_size: int | None) -> None:
        self._stop = sweep / STOP
        self._launcher = launcher
        self._sweep = sweep
        self._batch_size = batch_size
        self._monitor = monitor
        self._launched = 0
        self._todo: Sequence[PlannedRun] = ()

    def stop(self) -> None:
        """Start no more runs, and wait until those under way have ended; for a handler of signals.

        Workers of any launcher, and jobs in a queue, find the file and end or do not begin.
        """
        with contextlib.suppress(OSError):
            self._stop.touch()
        wait_until_free(self._todo, GRACE_SECONDS + 5)  # in which workers end or kill their runs

    def run(self, todo: Sequence[PlannedRun]) -> None:
        """Carry out the runs; those that another process trains come last, if it does not finish them."""
        self._todo = todo
        batches = deque(self._batches(todo))
        stamps = {run: run.stamp() for run in todo}
        locked, retried, failed_starts = list[PlannedRun](), set[PlannedRun](), 0
        while (batches or locked) and not self._stop.exists():
            if not batches:
                wait_until_free(locked, stop=self._stop)
                # Those that the process which trained them has not finished.
                batches.extend(self._batches([run for run in locked if not run.has_ended(stamps[run])]))
                locked = []
                continue
            batch = batches.popleft()
            before = {run: run.stamp() for run in batch}
            error = self._launch(batch, locked)
            if not error:
                continue
            left = [run for run in batch if run not in locked and not run.has_ended(stamps[run])]
            locked += [run for run in left if is_locked(run.folder)]
            begun = {run for run in batch if run.stamp() != before[run]}
            failed_starts = 0 if begun else failed_starts + 1
            if failed_starts == _FAILED_STARTS:
                self._monitor.cannot_start = (
                    f"the launcher cannot start jobs ({error}): mend that, or give another launcher"
                )
                return
            mark_killed(left)
            alone = [run for run in left if run in begun - retried and run not in locked]
            together = [run for run in left if run not in begun and run not in locked]
            retried |= {*alone}
            batches.extend([run] for run in alone)
            if together:
                batches.appendleft(together)
            again = len(alone) + len(together)
            started = f"; {count(again, 'run is', 'runs are')} started again" if again else ""
            self._monitor.print(f"jobs were lost ({error}){started}")

    def _batches(self, runs: Sequence[PlannedRun]) -> list[Sequence[PlannedRun]]:
        size = self._batch_size or max(len(runs), 1)
        return [runs[first : first + size] for first in range(0, len(runs), size)]

    def _launch(self, batch: Sequence[PlannedRun], locked: list[PlannedRun]) -> str:
        """Launch one batch; returns the error of a launcher that lost jobs, in one line."""
        # For workers whose environment and working directory are not those of the sweep.
        pinned = [
            f"hydra.sweep.dir={in_quotes(str(self._sweep))}",
            f"+hydra.job.env_set.{FOLDER}={in_quotes(str(Path.cwd()))}",
        ]
        planned = f"+hydra.job.env_set.{RUN}="
        overrides = [[*run.settings.overrides, *pinned, planned + in_quotes(run.run_id)] for run in batch]
        try:
            jobs = self._launcher.launch(overrides, self._launched)
        except Exception as error:  # whatever the engine behind the plugin raises
            return in_one_line(error)
        finally:
            self._launched += len(batch)
        for run, job in zip(batch, jobs, strict=True):
            raised = _error_of(job)
            if isinstance(raised, FolderLockedError):
                locked.append(run)
            elif raised and not isinstance(raised, RunInterruptedError | RunFailedError):
                self._monitor.report_error(run, in_one_line(raised))
        return ""


def _error_of(job: JobReturn) -> Exception | None:
    try:
        # Hydra prints a line of its own when it raises; the monitor prints the error.
        with contextlib.redirect_stderr(io.StringIO()):
            _ = job.return_value
    except Exception as error:
        return error
    return None


def wait_until_free(runs: Iterable[PlannedRun], seconds: float = math.inf, stop: Path | None = None) -> None:
    """Wait until no process trains any of the runs, the time is up, or a file `stop` appears."""
    end = time.monotonic() + seconds
    left = [run for run in runs if is_locked(run.folder)]
    while left and time.monotonic() < end and not (stop and stop.exists()):
        time.sleep(POLL_SECONDS)
        left = [run for run in left if is_locked(run.folder)]


def mark_killed(runs: Iterable[PlannedRun]) -> None:
    """Write ``interrupted`` for runs that were killed without warning, with the process that started them."""
    for run in runs:
        if run.state()[0] != RunState.RUNNING or is_locked(run.folder):
            continue
        # Another sweep may take it in this moment, and nothing can be written on a full disk.
        with contextlib.suppress(UserError, OSError), run_lock(run.folder):
            if run.state()[0] == RunState.RUNNING:
                error = "killed, or its machine was lost (the same command continues)"
                write_status(run.folder, "interrupted", run.summary, error=error)
