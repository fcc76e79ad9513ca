"""The result in a run's folder, and the disk space that the run's files need."""

import shutil
from pathlib import Path
from typing import Any

from sslbench.config import saved
from sslbench.config.schema import Settings
from sslbench.errors import UserError
from sslbench.rundir.parsing import load_result
from sslbench.rundir.records import CONFIG, RESULT
from sslbench.system.paths import exists


def finished_result(directory: Path, settings: Settings) -> dict[str, Any] | None:
    """The content of ``result.json`` in `directory`, if a run of the same settings has finished there.

    Raises:
        UserError: the folder holds another run, or its result cannot be read.
    """
    config_yaml = directory / CONFIG
    known = exists(config_yaml)
    if known and (difference := saved.difference(settings, saved.load(config_yaml))):
        raise UserError(
            f"{directory} holds a run of another configuration ({difference}): "
            f"choose another run_dir or delete it"
        )
    if not exists(directory / RESULT):
        return None
    result = read_result(directory)
    # By its configuration alone where there is one: runs of other versions have other ids.
    if not known and result["run_id"] != settings.run_id:
        raise UserError(
            f"{directory} holds the result of another run ({result['run_id']}): "
            f"choose another run_dir or delete it"
        )
    return result


def read_result(directory: Path) -> dict[str, Any]:
    """The content of ``result.json``, checked.

    Raises:
        UserError: there is none, or it is damaged.
    """
    path = directory / RESULT
    try:
        return load_result(path, RESULT).content()
    except UserError as error:
        if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
            raise UserError(f"{directory} holds no finished run: it has no {RESULT}") from error
        raise UserError(f"{path} is damaged ({error}): delete it and run again") from error


def require_space(directory: Path, needed: int) -> None:
    """Refuse to start a run whose files, of `needed` bytes, do not fit on the disk."""
    free = shutil.disk_usage(directory).free
    needed -= sum(path.stat().st_size for path in directory.glob("checkpoint/*.pt"))  # they are replaced
    if free < needed:
        raise UserError(
            f"{directory} has {free / 2**20:.0f} MiB free and the run needs about {needed / 2**20:.0f} MiB: "
            f"free some space or choose another output_root"
        )
