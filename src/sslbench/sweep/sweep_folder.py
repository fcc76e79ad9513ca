"""The folder of a sweep: one sweep at a time holds it, and workers leave there what the sweep is to know.

A file reaches the sweep from a worker of any launcher on any machine, and the other workers, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from sslbench.errors import UserError

#: A file of this name ends what runs and keeps the rest from starting.
STOP = "stop"
_ERRORS = "errors"
_LOCK = ".sweep.lock"  # a run's folder, which may be typed as that of a sweep, has one of its own


def error_file(folder: Path, run_id: str) -> Path:
    """Where a worker writes the error of a cell whose own folder does not hold it."""
    return folder / _ERRORS / f"{run_id}.txt"


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Around what writes into the folder of a sweep.

    Raises:
        UserError: it cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{folder} cannot be written ({error.strerror}): choose another output_root"
        ) from error


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Make the folder and hold it for one sweep; what an earlier one was told there is removed.

    Raises:
        UserError: another sweep holds it, or it cannot be written.
    """
    lock = FileLock(folder / _LOCK, timeout=0)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout as error:
            raise UserError(
                f"another sweep is running in {folder}: wait for it, or give another hydra.sweep.dir"
            ) from error
    try:
        with writing(folder):
            for told in (folder / STOP, *(folder / _ERRORS).glob("*.txt")):
                told.unlink(missing_ok=True)
        yield
    finally:
        lock.release()
