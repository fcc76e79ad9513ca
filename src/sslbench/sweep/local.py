"""Carrying out runs on this machine, side by side: the sweep's own process starts each and waits for it."""

import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import wait
from pathlib import Path
from typing import final

from filelock import FileLock

from sslbench.errors import UserError, in_one_line
from sslbench.rundir.lock import FolderLockedError, is_locked
from sslbench.sweep.gpus import VISIBLE, GpuSlots, cpu_cores, visible_gpus
from sslbench.sweep.monitor import Monitor
from sslbench.sweep.planned_run import PlannedRun, Stamp
from sslbench.sweep.run_process import (
    GRACE_SECONDS,
    POLL_SECONDS,
    STOP,
    RunFailedError,
    RunInterruptedError,
    RunProcess,
)


@final
class LocalRunner:
    """Carries out runs in processes of their own, at most `at_once` at a time, in the order of the plan.

    `at_once` is by default the number of places on GPUs, or of CPU cores where there is no GPU.
    """

    def __init__(
        self, sweep: Path, monitor: Monitor, at_once: int | None, environment: Mapping[str, str]
    ) -> None:
        self._stop = sweep / STOP
        self._sweep = sweep
        self._monitor = monitor
        self._at_once = at_once
        self._environment = environment
        self._slots = GpuSlots((), 1)
        self._waits_for_gpu = False
        self._running: dict[RunProcess, tuple[PlannedRun, FileLock | None]] = {}
        self._locked: list[PlannedRun] = []  # by another process
        self._stamps: dict[PlannedRun, Stamp] = {}

    def stop(self) -> None:
        """Start no more runs, and end those under way as interrupted ones; for a handler of signals."""
        with suppress(OSError):
            self._stop.touch()

    def run(self, todo: Sequence[PlannedRun]) -> None:
        """Carry out the runs; those that another process trains come last, if it does not finish them."""
        if any(run.settings.device != "cpu" for run in todo):
            self._slots = GpuSlots(visible_gpus(), todo[0].settings.jobs_per_gpu)
        at_once = self._at_once or len(self._slots) or cpu_cores()
        self._stamps = {run: run.stamp() for run in todo}
        waiting = deque(todo)
        try:
            while (waiting or self._locked or self._running) and not self._stop.exists():
                if not waiting:
                    waiting.extend(run for run in self._locked if not is_locked(run.folder))
                    self._locked = [run for run in self._locked if run not in waiting]
                while waiting and len(self._running) < at_once and self._start(waiting[0]):
                    waiting.popleft()
                ended = wait([process.sentinel for process in self._running], POLL_SECONDS)
                for process in [process for process in self._running if process.sentinel in ended]:
                    self._end(process, time.monotonic() + GRACE_SECONDS)
        finally:
            for process in self._running:
                process.terminate()
            deadline = time.monotonic() + GRACE_SECONDS
            for process in list(self._running):
                self._end(process, deadline)

    def _start(self, run: PlannedRun) -> bool:
        """Start the run unless another process trains or has ended it; False if no GPU is free for it."""
        if run.has_ended(self._stamps[run]):
            return True
        if is_locked(run.folder):  # before a place on a GPU is taken for it
            self._locked.append(run)
            return True
        environment, lock = dict(self._environment), None
        if len(self._slots) and run.settings.device != "cpu":
            place = self._slots.take()
            if place is None:
                if not self._waits_for_gpu:
                    jobs = f"jobs_per_gpu={run.settings.jobs_per_gpu}"
                    self._monitor.print(f"all places on GPUs are taken ({jobs}): waiting for one")
                self._waits_for_gpu = True
                return False
            environment[VISIBLE], lock = place
        try:
            process = RunProcess(run.settings, self._sweep, environment)
        except Exception as error:  # of the operating system: no memory, no process
            if lock:
                lock.release()
            self._fail(run, error)
            return True
        self._running[process] = run, lock
        return True

    def _end(self, process: RunProcess, deadline: float) -> None:
        run, lock = self._running[process]
        process.end(deadline)
        del self._running[process]
        if lock:
            lock.release()
        try:
            process.result()
        except FolderLockedError:
            self._locked.append(run)
        except RunInterruptedError:
            pass
        except UserError as error:
            self._fail(run, error)

    def _fail(self, run: PlannedRun, error: Exception) -> None:
        if not isinstance(error, RunFailedError):  # the folder of the run does not hold it
            self._monitor.report_error(run, in_one_line(error))
        if run.settings.fail_fast:
            self.stop()
