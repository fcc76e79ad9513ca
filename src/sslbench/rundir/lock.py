"""Who may write in a run's folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from sslbench.errors import UserError
from sslbench.rundir.result import exists

_LOCK = ".lock"
#: Folders in a run's folder in which it writes files of its own.
_PLACES = ("checkpoint", "pictures", "wandb")
#: `is_locked` takes the lock for an instant, which must not make `run_lock` fail.
_PATIENCE_SECONDS = 1.0


class FolderLockedError(UserError):
    """Another process trains in the folder."""


@contextmanager
def run_lock(directory: Path) -> Iterator[None]:
    """Hold `directory` for this process alone; a folder in which nothing came to be is removed.

    Raises:
        FolderLockedError: another process trains in it.
        UserError: the folder cannot be made or written.
    """
    made = [folder for folder in (directory, *directory.parents) if not exists(folder)]
    lock = FileLock(directory / _LOCK, timeout=_PATIENCE_SECONDS)
    try:
        while not lock.is_locked:
            directory.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):  # who held it has just removed the empty folder
                lock.acquire(poll_interval=_PATIENCE_SECONDS / 10)
    except Timeout as error:
        raise FolderLockedError(f"{directory} is in use: another process is training this run") from error
    except OSError as error:
        raise UserError(
            f"{directory} cannot be written ({error.strerror}): choose another output_root or run_dir"
        ) from error
    for place in (directory, *(directory / name for name in _PLACES)):
        for left_by_a_kill in place.glob(".*.part"):
            with suppress(OSError):  # a folder of that name is none of ours
                left_by_a_kill.unlink(missing_ok=True)
    try:
        yield
    finally:
        # Removed while it is held: who waits for the lock finds that its file is gone, and begins anew.
        if made and not [entry for entry in directory.iterdir() if entry.name != _LOCK]:
            (directory / _LOCK).unlink(missing_ok=True)
            with suppress(OSError):  # a folder in which another run has begun meanwhile stays
                for folder in made:
                    folder.rmdir()
        lock.release()


def is_locked(directory: Path) -> bool:
    """Whether a process holds the folder. Asking takes the lock for a moment, for which `run_lock` waits."""
    if not exists(directory / _LOCK):
        return False
    lock = FileLock(directory / _LOCK, timeout=0)
    try:
        lock.acquire()
    except FileNotFoundError:
        return False
    except (Timeout, OSError):
        return True
    lock.release()
    return False
