"""One cell in a process of its own: whatever happens to it, the sweep goes on and knows what happened."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from traceback import format_exception
from typing import Any

from sslbench.config.schema import Settings
from sslbench.errors import UserError
from sslbench.rundir.lock import FolderLockedError, is_locked, run_lock
from sslbench.rundir.records import STATUS
from sslbench.rundir.result import read_result
from sslbench.rundir.status import describe, read_status, write_status
from sslbench.sweep.driver import driver, end_with
from sslbench.sweep.gpus import VISIBLE, Gpu, gpu_slot, visible_gpus
from sslbench.sweep.planned_run import modified
from sslbench.sweep.run_errors import CellError, ElsewhereError, KnownError
from sslbench.sweep.sweep_folder import STOP
from sslbench.system.signals import STOP_SIGNALS, raise_on_signal, signals_blocked, unblock_signals

LOG = "job.log"

_POLL_SECONDS = 0.5
#: Time for a cell to write down that it was interrupted, and to close its loggers, before it is killed.
GRACE_SECONDS = 60.0
#: What takes seconds to import is imported once for all cells of a worker, which are forked from there.
PRELOADED = [
    "sslbench.sweep.fork_server",
    "sslbench.run.train",
    "torch._dynamo",  # torch's optimizers ask for it when they are made
]
_INTERRUPTED, _ELSEWHERE = 130, 75
#: Characters of an error that a worker is told: a pipe that nobody reads yet takes no more than 64 KiB.
_LONGEST = 4000

_running: set[ForkServerProcess] = set()


def train_cell(settings: Settings, sweep: Path) -> dict[str, Any]:
    """Run one cell, in a process of its own, with its output in ``job.log`` of its folder.

    Where there are GPUs that no scheduler hands out, this waits for one. With ``fail_fast``, a failure stops
    the sweep.

    Args:
        settings: of the cell.
        sweep: folder of the sweep.

    Returns:
        The content of ``result.json``.

    Raises:
        ElsewhereError: another process is training the cell.
        KnownError: the cell failed or was killed, as its ``status.json`` says, or it was interrupted, or not
            begun because the sweep has been stopped.
        CellError: it did not reach its end, and could not write that down.
        UserError: it cannot be found out which GPUs are free.
    """
    stop = sweep / STOP
    directory = settings.directory()
    before = modified(directory / STATUS)
    _refuse_after(stop)
    ours = driver()
    if ours is not None and ours != os.getpid():
        end_with(ours)
    gpus = visible_gpus() if ours and settings.device != "cpu" else ()
    if is_locked(directory):  # before a place on a GPU is taken for it
        raise ElsewhereError("another process is training it")
    told_of_waiting = False

    def pause() -> None:
        nonlocal told_of_waiting
        if not told_of_waiting:
            places = f"jobs_per_gpu={settings.jobs_per_gpu}"
            print(f"sslbench: {settings.name} waits for a GPU ({places})", file=sys.stderr, flush=True)
            told_of_waiting = True
        time.sleep(_POLL_SECONDS)
        _refuse_after(stop)

    with gpu_slot(gpus, settings.jobs_per_gpu, pause) as gpu:
        _refuse_after(stop)
        code, error = _run(settings, gpu, stop)
    try:
        return _outcome(settings, code, error)
    except KnownError:
        raise
    except CellError as error:
        status = read_status(directory).get("status")
        if modified(directory / STATUS) == before or status not in ("failed", "interrupted"):
            raise
        if settings.fail_fast and status == "failed":
            with suppress(OSError):  # before this worker begins another run
                stop.touch()
        raise KnownError(str(error)) from error


def terminate_cells() -> None:
    """Ask the cells that this very process runs to end."""
    for process in _running:
        process.terminate()


def _refuse_after(stop: Path) -> None:
    if stop.exists():
        raise KnownError("not started: the sweep has been stopped")


def _context() -> ForkServerContext:
    # A new process is told its parent's method to start processes, and joblib's is unknown to it.
    if multiprocessing.get_start_method() not in multiprocessing.get_all_start_methods():
        multiprocessing.set_start_method("forkserver", force=True)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def _run(settings: Settings, gpu: Gpu | None, stop: Path) -> tuple[int, str]:
    """The exit code of the cell's process, and the error that it told."""
    context = _context()
    hears, tells = context.Pipe(duplex=False)
    environment = {VISIBLE: gpu.token} if gpu else {}
    process = context.Process(
        target=_main, args=(settings, environment, Path.cwd(), tells), name=settings.run_id
    )
    process.daemon = True  # ended with this process, if that ends in good order
    error = ""
    try:
        process.start()
        _running.add(process)
        tells.close()
        while process.is_alive() and not stop.exists():
            process.join(_POLL_SECONDS)
    finally:
        _running.discard(process)
        slow = _end(process)
        code = process.exitcode if process.exitcode is not None else 1
        with suppress(EOFError, OSError):
            error = hears.recv() if hears.poll() else ""
        hears.close()
        # Closed, and not left to the collector: an error keeps its frames, and with them files, for long.
        # A cell that lives on, since the server died that would have told its end, notices this and ends.
        process.close()
    if slow:
        error = f"it did not end within {GRACE_SECONDS:.0f} s of being asked to, and was killed"
    return code, error


def _end(process: ForkServerProcess) -> bool:
    """End the process if it has not ended; returns whether it had to be killed."""
    if process.is_alive():
        process.terminate()
        process.join(GRACE_SECONDS)
    if process.is_alive():
        process.kill()
        process.join()
        return True
    return False


def _outcome(settings: Settings, code: int, error: str) -> dict[str, Any]:
    directory = settings.directory()
    with suppress(UserError):  # killed after it had written its result, it has reached its end
        result = read_result(directory)
        if result.get("run_id") == settings.run_id:
            return result
    if code == _ELSEWHERE:
        raise ElsewhereError(error)
    if code == _INTERRUPTED:
        raise KnownError("interrupted")
    if code == 1 and error:
        raise CellError(error)
    # Killed, or crashed within a library: what it left says that it is running.
    if not error:
        error = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        error += "; out of memory?" if code == -signal.SIGKILL else ""
    error += " (the same command goes on)"
    with suppress(UserError, OSError), run_lock(directory):
        write_status(directory, "interrupted", settings.summary(), error=error)
    raise CellError(error)


def _main(settings: Settings, environment: dict[str, str], folder: Path, tell: Connection) -> None:
    """The cell's process; an error goes to its files, and in one line to who started it."""
    with signals_blocked():  # until it can end in order
        _main_withheld(settings, environment, folder, tell)


def _main_withheld(settings: Settings, environment: dict[str, str], folder: Path, tell: Connection) -> None:
    for request in STOP_SIGNALS:  # which the server ignores
        if request != signal.SIGHUP:  # what a lost terminal means is for the sweep to say (nohup)
            signal.signal(request, signal.SIG_DFL)
    os.environ.update(environment)
    os.chdir(folder)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from sslbench.run.train import check, run_locked

    directory = settings.directory()
    code = 0
    try:
        with (
            raise_on_signal(first_only=True),
            run_lock(directory),
            _logged(directory / LOG),
            _recorded(settings),
        ):
            unblock_signals()
            run_locked(settings, check(settings))
    except KeyboardInterrupt:
        code = _INTERRUPTED
    except Exception as error:
        code = _ELSEWHERE if isinstance(error, FolderLockedError) else 1
        tell.send(describe(error)[:_LONGEST])
    sys.exit(code)


@contextmanager
def _recorded(settings: Settings) -> Iterator[None]:
    """Print an error with its traceback, and leave it in ``status.json`` where the run did not."""
    directory = settings.directory()
    try:
        yield
    except Exception as error:
        trace = "".join(format_exception(error))
        print(trace, file=sys.stderr, flush=True)
        status = read_status(directory)
        if status.get("pid") != os.getpid() or status.get("status") == "running":  # before it began to train
            with suppress(OSError):  # on a full disk; the error itself is on its way up
                write_status(directory, "failed", settings.summary(), error=describe(error), traceback=trace)
        raise


def _end_with_parent() -> None:
    """A cell whose parent was killed ends as an interrupted one, instead of training unseen."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def _logged(path: Path) -> Iterator[None]:
    """Append all that the process prints to a file, what libraries print below Python included.

    Raises:
        UserError: the file cannot be written.
    """
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
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
