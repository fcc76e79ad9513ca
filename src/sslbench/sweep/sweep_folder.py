"""The folder of a sweep, which one sweep at a time holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from sslbench.errors import UserError

#: A file of this name ends the runs and keeps the rest from starting. It is a file, since a file reaches a
#: worker of any launcher on any machine.
STOP = "stop"
_LOCK = ".sweep.lock"  # a run's folder, which may be typed as that of a sweep, has one of its own


@contextmanager
def sweep_lock(folder: Path) -> Iterator[None]:
    """Make the folder, and lock it for one sweep; the request to stop an earlier sweep in it is removed.

    Raises:
        UserError: another sweep holds it, or it cannot be written.
    """
    lock = FileLock(folder / _LOCK, timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        (folder / STOP).unlink(missing_ok=True)
    except Timeout as error:
        raise UserError(
            f"another sweep is running in {folder}: wait for it, or give another hydra.sweep.dir"
        ) from error
    except OSError as error:
        lock.release()
        raise UserError(
            f"{folder} cannot be written ({error.strerror}): choose another output_root"
        ) from error
    try:
        yield
    finally:
        lock.release()
