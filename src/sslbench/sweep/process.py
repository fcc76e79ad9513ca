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
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from traceback import format_exception
from typing import Any

from sslbench.config import Settings
from sslbench.errors import UserError
from sslbench.rundir import claimed, in_use, in_words, read_result, read_status, write_status
from sslbench.sweep.gpus import VISIBLE, gpu_slot, visible_gpus

LOG = "job.log"
#: A file of this name in the sweep's folder ends what runs and keeps the rest from starting.
STOP = "stop"
#: In the environment of a sweep's workers, its process id.
DRIVER = "SSLBENCH_SWEEP_PID"

_POLL_SECONDS = 0.5
#: Time for a cell to write down that it was interrupted, before it is killed.
_GRACE_SECONDS = 20.0
#: What takes seconds to import is imported once for all cells of a worker, which are forked from there.
_PRELOADED = ["sslbench.run", "torchmetrics.functional.classification", "sklearn.datasets"]
_INTERRUPTED = 130


class CellError(UserError):
    """A cell that did not reach its end."""


def train_cell(settings: Settings, sweep: Path) -> dict[str, Any]:
    """Run one cell, in a process of its own, with its output in ``job.log`` of its folder.

    Where there are GPUs, this waits for one. Where another process trains the cell, it waits for that one
    and takes its result.

    Args:
        settings: of the cell.
        sweep: folder of the sweep.

    Returns:
        The content of ``result.json``.

    Raises:
        CellError: the cell failed, was killed, or was not begun because the sweep is to stop. But for the
            last case, its ``status.json`` says so too.
    """
    driver, stop = _driver(), sweep / STOP
    gpus = visible_gpus() if settings.device != "cpu" else ()

    told_of_waiting = False

    def pause() -> None:
        nonlocal told_of_waiting
        if not told_of_waiting:
            places = f"jobs_per_gpu={settings.jobs_per_gpu}"
            print(f"sslbench: {settings.name} waits for a GPU ({places})", file=sys.stderr, flush=True)
            told_of_waiting = True
        time.sleep(_POLL_SECONDS)
        _exit_without(driver)
        _refuse_after(stop)

    with gpu_slot(gpus, settings.jobs_per_gpu, pause) as gpu:
        _refuse_after(stop)
        context = _context()
        hears, tells = context.Pipe(duplex=False)
        process = context.Process(
            target=_main, args=(settings, {VISIBLE: gpu.token} if gpu else {}, tells), name=settings.run_id
        )
        process.daemon = True  # ended with this process, if that ends in good order
        process.start()
        try:
            while process.is_alive() and not stop.exists():
                process.join(_POLL_SECONDS)
                _exit_without(driver)
        finally:
            _end(process)
    if hears.poll():
        raise CellError(hears.recv())
    return _outcome(settings, process)


def _driver() -> int | None:
    """The sweep's process, if it started this worker itself, as joblib does.

    Workers of other engines may outlive it: jobs in a queue do not need it.
    """
    parent = os.getppid()
    return parent if os.environ.get(DRIVER) == str(parent) else None


def _exit_without(driver: int | None) -> None:
    """End this worker, and with it its cell, when the sweep is gone: nobody waits for more cells."""
    if driver is not None and os.getppid() != driver:
        os._exit(1)


def _refuse_after(stop: Path) -> None:
    if stop.exists():
        raise CellError("not started: the sweep has been stopped")


def _context() -> multiprocessing.context.ForkServerContext:
    # A new process is told its parent's method to start processes, and joblib's is unknown to it.
    if multiprocessing.get_start_method() not in multiprocessing.get_all_start_methods():
        multiprocessing.set_start_method("forkserver", force=True)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    return context


def _end(process: ForkServerProcess) -> None:
    if process.is_alive():
        process.terminate()
        process.join(_GRACE_SECONDS)
    if process.is_alive():
        process.kill()
        process.join()


def _outcome(settings: Settings, process: ForkServerProcess) -> dict[str, Any]:
    directory, code = settings.directory(), process.exitcode
    assert code is not None
    if code == 0:
        return read_result(directory)
    if code == _INTERRUPTED:
        raise CellError("interrupted")
    # Killed, or crashed within a library: what it left says that it is running.
    cause = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    hint = "; out of memory?" if code == -signal.SIGKILL else ""
    error = f"{cause}{hint} (the same command goes on from the last checkpoint)"
    if directory.is_dir() and not in_use(directory):  # not while it was waiting for another process
        write_status(directory, "interrupted", settings.summary(), error=error)
    raise CellError(error)


def _main(settings: Settings, environment: dict[str, str], tell: Connection) -> None:
    """The cell's process; an error goes to its files, and in one line to who started it."""
    os.environ.update(environment)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from sslbench.run import check, run_claimed, terminable

    directory = settings.directory()
    try:
        with terminable(), claimed(directory, wait=True), _logged(directory / LOG), _recorded(settings):
            run_claimed(settings, check(settings))
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    except Exception as error:
        tell.send(in_words(error))
        sys.exit(1)


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
        if (status.get("status"), status.get("pid")) != ("failed", os.getpid()):  # before it began to train
            with suppress(OSError):  # on a full disk; the error itself is on its way up
                write_status(directory, "failed", settings.summary(), error=in_words(error), traceback=trace)
        raise


def _end_with_parent() -> None:
    """A cell whose parent was killed ends as an interrupted one, instead of training unseen."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def _logged(path: Path) -> Iterator[None]:
    """Append all that the process prints to a file, what libraries print below Python included."""
    with path.open("ab") as log:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
