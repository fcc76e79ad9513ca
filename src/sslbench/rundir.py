"""A run's folder: who may write there, what it holds, and how the run stands."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from traceback import format_exception
from types import TracebackType
from typing import Any, final

from filelock import FileLock, Timeout

from sslbench import config_file
from sslbench.config import Node, Settings
from sslbench.errors import UserError
from sslbench.files import write_text_atomically
from sslbench.reading import parse_json, read_text

_LOCK = ".lock"
#: Folders in a run's folder in which it writes files of its own.
_PLACES = ("checkpoint", "pictures", "wandb")
STATUS = "status.json"
RESULT = "result.json"
#: The status of a run that has a result.
FINISHED = "finished"
#: To be taken aback by who only asks whether the folder is in use would be rash.
_PATIENCE_SECONDS = 1.0


def finished_result(directory: Path, settings: Settings) -> dict[str, Any] | None:
    """The result in `directory`, if a run of the same settings has finished there.

    Raises:
        UserError: the folder holds a run of other settings, or its result cannot be read.
    """
    saved = directory / "config.yaml"
    if _exists(saved) and (difference := config_file.difference(settings, config_file.load(saved))):
        raise UserError(
            f"{directory} holds a run of another configuration ({difference}): "
            f"choose another run_dir or delete it"
        )
    return read_result(directory, _FIELDS) if _exists(directory / RESULT) else None


def _exists(path: Path) -> bool:
    """Whether there is such a file; that a name is too long, or a folder closed, is told by who writes."""
    return os.path.exists(path)  # noqa: PTH110 - Path.exists raises there


#: What the program itself reads of a result, by kind; the greatest number that each may be.
_TEXTS = ("run_id", "algorithm", "dataset", "split_hash", "device")
_WHOLE = dict.fromkeys(("num_labels", "seed", "step_best"), 2**63)
_FRACTIONS = dict.fromkeys(("val_acc_best", "test_acc", "test_acc_last", "test_acc_median20", "test_ece"), 1)
_POSITIVE = dict.fromkeys(
    ("train_seconds", "steps_per_second"), 10**12
)  # more seconds cannot be told in days
_FIELDS = (*_TEXTS, *_WHOLE, *_FRACTIONS, *_POSITIVE)


def read_result(directory: Path, needed: Iterable[str] = ()) -> dict[str, Any]:
    """The content of ``result.json``.

    Args:
        directory: of the run.
        needed: fields that must be there; of those that the program knows, each that is there is checked.

    Raises:
        UserError: there is none, or it is damaged.
    """
    path = directory / RESULT
    try:
        result = parse_json(read_text(path, "it"), "it")
        for name in _FIELDS:
            if name in result or name in needed:
                _check_field(name, result.get(name))
    except UserError as error:
        if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
            raise UserError(f"{directory} holds no finished run: it has no {RESULT}") from error
        raise UserError(f"{path} is damaged ({error}): delete it and run again") from error
    return result


def _check_field(name: str, value: Any) -> None:
    if name in _TEXTS:
        valid = isinstance(value, str)
    else:
        most = {**_WHOLE, **_FRACTIONS, **_POSITIVE}[name]
        kind = int if name in _WHOLE else int | float
        # bool is an int to Python; NaN fails the comparison
        valid = isinstance(value, kind) and not isinstance(value, bool) and 0 <= value <= most
    if not valid:
        raise UserError(f"it has no valid '{name}'")


class InUseError(UserError):
    """Another process trains in the folder."""


@contextmanager
def claimed(directory: Path) -> Iterator[None]:
    """Hold `directory` for this process alone; a folder in which nothing came to be is removed.

    Raises:
        InUseError: another process trains in it.
        UserError: the folder cannot be made or written.
    """
    made = [folder for folder in (directory, *directory.parents) if not _exists(folder)]
    lock = FileLock(directory / _LOCK, timeout=_PATIENCE_SECONDS)
    try:
        while not lock.is_locked:
            directory.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):  # who held it has just removed the empty folder
                lock.acquire(poll_interval=_PATIENCE_SECONDS / 10)
    except Timeout as error:
        raise InUseError(f"{directory} is in use: another process is training this run") from error
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


def in_use(directory: Path) -> bool:
    """Whether a process holds the folder. Asking takes the lock for a moment, for which `claimed` waits."""
    if not _exists(directory / _LOCK):
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


def require_space(directory: Path, needed: int) -> None:
    """Refuse to start a run whose files, of `needed` bytes, do not fit on the disk.

    Raises:
        UserError: the disk is too full.
    """
    free = shutil.disk_usage(directory).free
    needed -= sum(path.stat().st_size for path in directory.glob("checkpoint/*.pt"))  # they are replaced
    if free < needed:
        raise UserError(
            f"{directory} has {free / 2**20:.0f} MiB free and the run needs about {needed / 2**20:.0f} MiB: "
            f"free some space or choose another output_root"
        )


def write_status(directory: Path, status: str, summary: Node, **details: Any) -> None:
    """Write ``status.json``.

    Args:
        directory: of the run.
        status: ``running``, ``finished``, ``failed`` or ``interrupted``.
        summary: of the run's settings, so that a run without a result can be told in a report.
        details: ``error``, a line, and ``traceback``, where there are any.
    """
    content = {"status": status, "pid": os.getpid(), **details, "run": summary}
    write_text_atomically(directory / STATUS, json.dumps(content, indent=2) + "\n")


def read_status(directory: Path) -> dict[str, Any]:
    """The content of ``status.json``; empty where there is none, or none that can be read."""
    path = directory / STATUS
    try:
        return parse_json(read_text(path), str(path))
    except UserError:
        return {}


def in_words(error: BaseException) -> str:
    """An error in one line."""
    told = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    return " ".join(told.split())


@final
class Status:
    """``status.json``: running while the block runs, then finished, failed with the error, or interrupted.

    Args:
        directory: of the run.
        summary: of the run's settings.
    """

    def __init__(self, directory: Path, summary: Node) -> None:
        self._directory = directory
        self._summary = summary
        self.outcome = "running"

    def _write(self, **details: str) -> None:
        write_status(self._directory, self.outcome, self._summary, **details)

    def __enter__(self) -> Status:
        self._write()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.outcome = FINISHED
            self._write()
        elif isinstance(error, KeyboardInterrupt):
            # Asked to end when all was done, it is done.
            self.outcome = FINISHED if (self._directory / RESULT).exists() else "interrupted"
            self._write()
        else:
            # A full disk is not the run's fault: the same run would go on elsewhere, or later.
            self.outcome = "interrupted" if isinstance(error, OSError | SystemExit) else "failed"
            # A disk may be so full that not even this fits; the error itself is on its way up.
            with suppress(OSError):
                self._write(error=in_words(error), traceback="".join(format_exception(error)))
