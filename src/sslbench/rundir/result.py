"""``result.json`` of a run, and the room that its files need."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sslbench.config import saved
from sslbench.config.schema import Settings
from sslbench.errors import UserError
from sslbench.system.safe_files import parse_json, read_text
from sslbench.system.text import printable

RESULT = "result.json"


def finished_result(directory: Path, settings: Settings) -> dict[str, Any] | None:
    """The result in `directory`, if a run of the same settings has finished there.

    Raises:
        UserError: the folder holds a run of other settings, or its result cannot be read.
    """
    config_yaml = directory / "config.yaml"
    if exists(config_yaml) and (difference := saved.difference(settings, saved.load(config_yaml))):
        raise UserError(
            f"{directory} holds a run of another configuration ({difference}): "
            f"choose another run_dir or delete it"
        )
    if not exists(directory / RESULT):
        return None
    result = read_result(directory, _FIELDS)
    # By its configuration alone where there is one: runs of other versions have other ids.
    if not exists(config_yaml) and result["run_id"] != settings.run_id:
        raise UserError(
            f"{directory} holds the result of another run ({printable(result['run_id'])}): "
            f"choose another run_dir or delete it"
        )
    return result


def exists(path: Path) -> bool:
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
