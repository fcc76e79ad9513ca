"""The id of a run at W&B, kept in the run's folder: as long as that is there, it is the same run."""

import secrets
from pathlib import Path

from sslbench.errors import UserError
from sslbench.system.atomic_files import write_text_atomically
from sslbench.system.safe_files import read_text
from sslbench.tracking.tracker import RunInfo

_FORBIDDEN = set("/\\#?%:")
_LONGEST = 256


def new_id(run: RunInfo) -> str:
    """An id for a run that begins.

    The run id alone would not do: it is the same for everyone who trains this configuration, and after the
    folder was deleted, so that W&B would append to curves of another run.
    """
    return f"{run.run_id}-{secrets.token_hex(4)}"


def saved_id(run: RunInfo) -> str | None:
    """The id that the run in this folder had; None where W&B has not seen it, or where no file holds one.

    Not kept in the checkpoint: a run that was killed before its first one trains the same again, and is not
    to leave the beginning of its curves behind at W&B.
    """
    try:
        found = read_text(_file(run)).strip()
    except UserError:
        return None
    return found if is_name(found, _LONGEST) else None


def is_name(text: str, longest: int) -> bool:
    """Whether W&B takes it for an id, a project or an entity, which are parts of addresses and of paths."""
    printable = text.isprintable() and not set(text) & _FORBIDDEN
    return printable and 0 < len(text.strip()) <= len(text) <= longest


def save_id(run: RunInfo, used: str) -> None:
    """Keep the id `used`; raises `OSError` if the file cannot be written."""
    path = _file(run)
    path.parent.mkdir(exist_ok=True)
    write_text_atomically(path, used + "\n")


def _file(run: RunInfo) -> Path:
    return run.run_dir / "wandb" / "run-id.txt"
