"""The lock on a run's folder: one process at a time writes there."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from sslbench.errors import UserError
from sslbench.system.paths import exists

_LOCK = ".lock"
#: Subfolders in which a run writes files of its own.
_SUBFOLDERS = ("checkpoint", "pictures", "wandb")
#: How long `run_lock` tries: `is_locked` takes the lock for an instant, which must not make it fail.
_TIMEOUT_SECONDS = 1.0


class FolderLockedError(UserError):
    """Another process trains in the folder."""


@contextmanager
def run_lock(directory: Path) -> Iterator[None]:
    """Lock `directory` for this process. A folder in which nothing was written is removed at the end.

    Raises:
        FolderLockedError: another process trains in it.
        UserError: the folder cannot be made or written.
    """
    made = [folder for folder in (directory, *directory.parents) if not exists(folder)]
    lock = FileLock(directory / _LOCK, timeout=_TIMEOUT_SECONDS)
    try:
        while not lock.is_locked:
            directory.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):  # another process has just removed the empty folder
                lock.acquire(poll_interval=_TIMEOUT_SECONDS / 10)
    except Timeout as error:
        raise FolderLockedError(f"{directory} is in use: another process is training this run") from error
    except OSError as error:
        raise UserError(
            f"{directory} cannot be written ({error.strerror}): choose another output_root or run_dir"
        ) from error
    for folder in (directory, *(directory / name for name in _SUBFOLDERS)):
        for left_by_a_kill in folder.glob(".*.part"):
            with suppress(OSError):  # a folder of that name is not one of ours
                left_by_a_kill.unlink(missing_ok=True)
    try:
        yield
    finally:
        # Removed before the lock is released: a process that waits for it finds no file and starts over.
        if made and not [entry for entry in directory.iterdir() if entry.name != _LOCK]:
            (directory / _LOCK).unlink(missing_ok=True)
            with suppress(OSError):  # a folder in which another run has begun meanwhile stays
                for folder in made:
                    folder.rmdir()
        lock.release()


def is_locked(directory: Path) -> bool:
    """Whether a process has locked the folder. Asking takes the lock for an instant, see `run_lock`."""
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
