"""Checkpoints: all that a run needs to continue, with a checksum and the run's identity."""

import hashlib
import io
import pickle
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch

from sslbench.config.intervals import Interval
from sslbench.errors import UserError
from sslbench.system.atomic_files import write_atomically
from sslbench.system.safe_files import require_file

#: Raised when runs can no longer continue from older checkpoints.
FORMAT = 2
#: Checkpoints take no more than this share of the time, however slow the disk is.
_SHARE = 0.01
_DIGEST_BYTES = 64


def save_checkpoint(path: Path, state: Mapping[str, Any], previous: Path | None = None) -> None:
    """Write `state` so that a process killed at any moment leaves a whole checkpoint, old or new.

    The file is an ordinary one of ``torch.save``: a zip archive, whose comment holds the SHA-256 of the
    archive without it, in hexadecimal. torch itself does not check whether the file was damaged. The
    checkpoint that is replaced is kept as `previous`.

    Raises:
        OSError: the disk is full or the folder not writable.
    """
    path.parent.mkdir(exist_ok=True)
    # Made in memory first: torch's own writer hides a full disk behind an error about positions.
    memory = io.BytesIO()
    torch.save(dict(state), memory)
    archive = memory.getbuffer()
    digest = hashlib.sha256(archive).hexdigest().encode()

    def write(part: Path) -> None:
        with part.open("wb") as file:
            file.write(archive[:-2])  # the last two bytes are the length of the comment
            file.write(len(digest).to_bytes(2, "little") + digest)

    write_atomically(path, write, previous)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote, without executing anything in it.

    Raises:
        UserError: the file is damaged or holds something other than a checkpoint.
        OSError: it is absent, or cannot be read.
    """
    if path.exists():
        require_file(path)
    content = path.read_bytes()
    archive = content[: -_DIGEST_BYTES - 2] + b"\0\0"
    if hashlib.sha256(archive).hexdigest().encode() != content[-_DIGEST_BYTES:]:
        raise UserError(f"{path} is damaged, or of an earlier version: it does not end with its checksum")
    try:
        with warnings.catch_warnings():  # of formats that we do not write
            warnings.simplefilter("ignore")
            state = torch.load(io.BytesIO(archive), map_location="cpu", weights_only=True)
        if not isinstance(state, dict):
            raise ValueError("not a checkpoint")
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, LookupError) as error:
        raise UserError(f"{path} is damaged, or was not written by sslbench") from error
    return state


@dataclass(frozen=True)
class Origin:
    """What a checkpoint must share with a run that continues from it."""

    run_id: str
    split: str  # its digest, which depends on the data
    device: str  # its kind: the random streams of one kind exist on no other

    def refusal(self, state: Mapping[str, Any]) -> str | None:
        """Why a run of this origin cannot continue from `state`, or None."""
        form, origin = state.get("format"), state.get("origin")
        if type(form) is not int or form != FORMAT or not isinstance(origin, dict):
            return "was written by another version of sslbench"
        if origin.get("run_id") != self.run_id:
            return f"is of another run ({origin.get('run_id')}, not {self.run_id})"
        if origin.get("split") != self.split:
            return "is of other data: the data have changed since"
        if origin.get("device") != self.device:
            return f"was made on {origin.get('device')}: set device={origin.get('device')} to continue"
        return None


@final
class Checkpoints:
    """``last.pt``, from which a run continues, and ``previous.pt``, the one before, in case that is damaged.

    An interval of seconds is a lower bound, stretched where writing is slow.
    """

    def __init__(
        self,
        folder: Path,
        origin: Origin,
        interval: Interval,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._last, self._previous = folder / "last.pt", folder / "previous.pt"
        self._origin = origin
        self._interval = interval
        self._clock = clock
        self._next = clock() + (interval.seconds or 0)
        self._last_is_sound = True

    def load(self) -> tuple[dict[str, Any], str] | None:
        """The newest state that the run can continue from, and a warning, empty if all is well.

        None where there is no checkpoint.

        Raises:
            UserError: there are checkpoints, and the run can continue from none.
        """
        refusals: list[str] = []
        for path in (self._last, self._previous):
            try:
                state = load_checkpoint(path)
                if refusal := self._origin.refusal(state):
                    raise UserError(f"{path} {refusal}")
            except (FileNotFoundError, NotADirectoryError):
                pass
            except OSError as error:
                refusals.append(f"{path} cannot be read ({error.strerror})")
            except UserError as error:
                refusals.append(str(error))
            else:
                self._last_is_sound = not refusals
                if not refusals:
                    return state, ""
                return state, f"{refusals[0]}; continuing from the one before, of step {state['step']}"
        if refusals:
            folder = self._last.parent.parent
            raise UserError(f"{refusals[0]}; or delete {folder} to start again, or choose another run_dir")
        return None

    def due(self, step: int) -> bool:
        """Whether to write one after `step` steps."""
        if self._interval.steps is not None:
            return step % self._interval.steps == 0
        return self._clock() >= self._next

    def save(self, state: Mapping[str, Any]) -> None:
        """Write the checkpoint of `state`, and keep the one before.

        Raises:
            OSError: the disk is full or the folder not writable; what was there before stays.
        """
        began = self._clock()
        content = {"format": FORMAT, "origin": vars(self._origin), **state}
        save_checkpoint(self._last, content, self._previous if self._last_is_sound else None)
        self._last_is_sound = True
        ended = self._clock()
        self._next = ended + max(self._interval.seconds or 0, (ended - began) / _SHARE)
