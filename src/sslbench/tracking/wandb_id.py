"""The id of a run at W&B, kept in the run's folder so that a resumed run goes on under it."""

from __future__ import annotations

import secrets
from pathlib import Path

from sslbench.errors import UserError
from sslbench.files import write_text_atomically
from sslbench.reading import read_text
from sslbench.tracking.base import RunInfo

_FORBIDDEN = set("/\\#?%:")
_LONGEST = 256


def new_id(run: RunInfo) -> str:
    """An id for a run that begins.

    The run id alone would not do: it is the same for everyone who trains this configuration, and after the
    folder was deleted, so that W&B would append to curves of another run.
    """
    return f"{run.run_id}-{secrets.token_hex(4)}"


def saved_id(run: RunInfo) -> str | None:
    """The id that a resumed run had; None for a run that begins, or if no file holds one."""
    path = _file(run)
    if run.first_step == 0:
        return None
    try:
        found = read_text(path).strip()
    except UserError:
        return None
    return found if _is_id(found) else None


def _is_id(text: str) -> bool:
    """Whether W&B takes it as an id, which also becomes part of the name of a folder."""
    return 0 < len(text) <= _LONGEST and text.isprintable() and not set(text) & _FORBIDDEN


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
