"""One run in a process of its own: whatever ends it, the sweep continues and knows why."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from traceback import format_exception
from typing import Any, final

from sslbench.config.schema import Settings
from sslbench.errors import UserError, in_one_line
from sslbench.rundir.lock import FolderLockedError, is_locked, run_lock
from sslbench.rundir.records import STATUS
from sslbench.rundir.result import read_result
from sslbench.rundir.status import read_status, write_status
from sslbench.sweep.planned_run import modified
from sslbench.system.signals import STOP_SIGNALS, raise_on_signal, signals_blocked, unblock_signals

LOG = "job.log"
#: A file of this name in a sweep's folder ends the runs and keeps the rest from starting. It is a file, since
#: a file reaches a worker of any launcher on any machine.
STOP = "stop"
POLL_SECONDS = 0.5
#: Time for a run to write down that it was interrupted, and to close its loggers, before it is killed.
GRACE_SECONDS = 60.0
#: What takes seconds to import is imported once, by the fork server from which the runs are forked.
PRELOADED = [
    "sslbench.sweep.fork_server",
    "sslbench.run.train",
    "torch._dynamo",  # torch's optimizers ask for it when they are made
]
_INTERRUPTED, _LOCKED = 130, 75
#: Characters of an error that a process sends: a pipe that nobody reads yet takes no more than 64 KiB.
_LONGEST = 4000


# An error of any other kind is one that the run's folder does not hold: the sweep prints it.


class RunInterruptedError(UserError):
    """The run was interrupted or killed, as its ``status.json`` says, or not started in a stopped sweep."""


class RunFailedError(UserError):
    """The run failed, as its ``status.json`` says."""


@final
class RunProcess:
    """A run that trains in a process of its own, with its output in ``job.log`` of its folder.

    A process has one fork server, and starting a run polls the runs that were started before; so all runs of
    a process are started, ended and polled in one thread. The run gets the variables in `environment`.
    """

    def __init__(self, settings: Settings, sweep: Path, environment: Mapping[str, str]) -> None:
        self._settings = settings
        self._status_before = modified(settings.directory() / STATUS)
        self._code = 1
        self._error = ""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        self._reads, writes = context.Pipe(duplex=False)
        self._process = context.Process(
            target=_main,
            args=(settings, sweep / STOP, dict(environment), Path.cwd(), writes),
            name=settings.run_id,
            daemon=True,  # ended with this process, if that ends in good order
        )
        try:
            self._process.start()
        finally:
            writes.close()
        #: Of the operating system; ready once the process has ended.
        self.sentinel = self._process.sentinel

    def terminate(self) -> None:
        """Ask the run to end."""
        self._process.terminate()

    def wait(self, seconds: float) -> bool:
        """Wait for the end of the process; returns whether it has ended."""
        self._process.join(seconds)
        return not self._process.is_alive()

    def end(self, deadline: float) -> None:
        """Wait for the end of the process, and kill it at `deadline` on the clock of `time.monotonic`."""
        killed = not self.wait(max(deadline - time.monotonic(), 0.0))
        if killed:
            self._process.kill()
            self._process.join()
        assert self._process.exitcode is not None
        self._code = self._process.exitcode
        with suppress(EOFError, OSError):
            self._error = self._reads.recv() if self._reads.poll() else ""
        self._reads.close()
        # Closed, and not left to the collector: an error keeps its frames, and with them files, for long.
        # A run that lives on, since the fork server died that would have seen its end, notices this and ends.
        self._process.close()
        if killed:
            self._error = f"it did not end within {GRACE_SECONDS:.0f} s of being asked to, and was killed"

    def result(self) -> dict[str, Any]:
        """The content of ``result.json``, after `end`.

        Raises:
            FolderLockedError, RunInterruptedError, RunFailedError: see there.
            UserError: it did not reach its end, and could not write that down.
        """
        directory = self._settings.directory()
        with suppress(UserError):  # killed after it had written its result, it has reached its end
            result = read_result(directory)
            if result.get("run_id") == self._settings.run_id:
                return result
        if self._code == _LOCKED:
            raise FolderLockedError(self._error)
        if self._code == _INTERRUPTED:
            raise RunInterruptedError("interrupted")
        error = self._error if self._code == 1 and self._error else self._killed()
        status = read_status(directory).get("status")
        if modified(directory / STATUS) != self._status_before:
            if status == "failed":
                raise RunFailedError(error)
            if status == "interrupted":
                raise RunInterruptedError(error)
        raise UserError(error)

    def _killed(self) -> str:
        """Say how the process was killed, or crashed in a library, here and in ``status.json``."""
        error = self._error or f"ended with exit code {self._code}"
        if not self._error and self._code < 0:
            error = f"killed by {signal.Signals(-self._code).name}"
            error += "; out of memory?" if self._code == -signal.SIGKILL else ""
        error += " (the same command continues)"
        directory = self._settings.directory()
        with suppress(UserError, OSError), run_lock(directory):
            write_status(directory, "interrupted", self._settings.summary(), error=error)
        return error


def train_in_process(settings: Settings, sweep: Path) -> dict[str, Any]:
    """Train one run in a process of its own, until it ends or the sweep is stopped.

    Returns and raises what `RunProcess.result` does.
    """
    stop = sweep / STOP
    if stop.exists():
        raise RunInterruptedError("not started: the sweep has been stopped")
    if is_locked(settings.directory()):
        raise FolderLockedError("another process is training it")
    process = RunProcess(settings, sweep, {})
    try:
        while not process.wait(POLL_SECONDS) and not stop.exists():
            pass
    finally:
        process.terminate()
        process.end(time.monotonic() + GRACE_SECONDS)
    return process.result()


@signals_blocked()  # until it can end in order
def _main(
    settings: Settings, stop: Path, environment: Mapping[str, str], folder: Path, writes: Connection
) -> None:
    """The run's process; an error goes to its files, and in one line to the process that started it."""
    for request in STOP_SIGNALS:  # which the fork server ignores
        if request != signal.SIGHUP:  # what a lost terminal means is for the sweep to say (nohup)
            signal.signal(request, signal.SIG_DFL)
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv[1:] = settings.overrides  # which W&B shows as the run's command
    threading.Thread(target=_end_with_parent, daemon=True).start()
    directory = settings.directory()
    code = 0
    try:
        if stop.exists():  # the sweep was stopped while this process started
            raise KeyboardInterrupt
        with raise_on_signal(first_only=True), run_lock(directory):
            _log_to(directory / LOG)
            unblock_signals()
            _train(settings)
    except KeyboardInterrupt:
        code = _INTERRUPTED
    except Exception as error:
        code = _LOCKED if isinstance(error, FolderLockedError) else 1
        writes.send(in_one_line(error)[:_LONGEST])
    sys.exit(code)


def _train(settings: Settings) -> None:
    """Train; an error is printed with its traceback, and left in ``status.json`` where the run did not."""
    from sslbench.run.train import check, run_locked

    try:
        run_locked(settings, check(settings))
    except Exception as error:
        trace = "".join(format_exception(error))
        print(trace, file=sys.stderr, flush=True)
        status = read_status(settings.directory())
        if status.get("pid") != os.getpid() or status.get("status") == "running":  # before it began to train
            with suppress(OSError):  # on a full disk; the error itself is on its way up
                details = {"error": in_one_line(error), "traceback": trace}
                write_status(settings.directory(), "failed", settings.summary(), **details)
        raise


def _end_with_parent() -> None:
    """End a run whose parent was killed like an interrupted one, instead of training unseen."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


def _log_to(path: Path) -> None:
    """Append all that the process prints to a file, what libraries print below Python included."""
    try:
        log = path.open("ab")
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror}): move what is there, or choose another output_root"
        ) from error
    with log:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
