"""The id of a run at W&B, kept in the run's folder: as long as that is there, it is the same run."""

from __future__ import annotations

import secrets
from pathlib import Path

from sslbench.files import write_text_atomically
from sslbench.tracking.base import RunInfo


def new_id(run: RunInfo) -> str:
    """An id for a run that begins.

    The run id alone would not do: it is the same for everyone who trains this configuration, and after the
    folder was deleted, so that W&B would append to curves of another run.
    """
    return f"{run.run_id}-{secrets.token_hex(4)}"


def saved_id(run: RunInfo) -> str | None:
    """The id that the run in this folder had; None where W&B has not seen it.

    Not kept in the checkpoint: a run that was killed before its first one trains the same again, and is not
    to leave the beginning of its curves behind at W&B.

    Raises:
        OSError: the file cannot be read.
    """
    path = _file(run)
    return path.read_text(encoding="utf-8").strip() if path.exists() else None


def save_id(run: RunInfo, used: str) -> None:
    """Keep the id `used`.

    Raises:
        OSError: the file cannot be written.
    """
    path = _file(run)
    path.parent.mkdir(exist_ok=True)
    write_text_atomically(path, used + "\n")


def _file(run: RunInfo) -> Path:
    return run.run_dir / "wandb" / "run-id.txt"
