"""The configurations of groups, read from their runs or from the plan of their sweep."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sslbench.errors import UserError
from sslbench.report.compare.groups import Group
from sslbench.rundir.records import CONFIG
from sslbench.system.paths import relative
from sslbench.system.safe_files import parse_yaml, read_text

#: Parts of every configuration: compared with a part of one, a whole one would differ in everything.
_NEEDED = ("dataset", "model", "algorithm", "optimizer", "schedule", "choices")

Configuration = Mapping[str, Any]


def read_configurations(groups: Iterable[Group]) -> tuple[dict[int, Configuration], list[str]]:
    """The configuration of each group that has one, by its number, and a warning for each unreadable file."""
    warnings: list[str] = []
    found = {group.number: _read(group, warnings) for group in groups}
    return {number: config for number, config in found.items() if config is not None}, warnings


def _read(group: Group, warnings: list[str]) -> Configuration | None:
    """From the first run that has a configuration; None if neither a run nor a plan has one."""
    for folder in [*(run.folder for run in group.runs), *(run.folder for run in group.missing)]:
        path = folder / CONFIG
        try:
            if found := _complete(parse_yaml(read_text(path, relative(path)), relative(path))):
                return found
            raise UserError(f"{relative(path)} is not a run's configuration")
        except UserError as error:
            if not isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
                warnings.append(f"{error}; its settings are not compared")
    return next(filter(None, (_complete(run.settings) for run in group.missing)), None)


def _complete(found: object) -> Configuration | None:
    if isinstance(found, dict) and all(isinstance(found.get(name), dict) for name in _NEEDED):
        return found
    return None


def evaluations(config: Configuration) -> int | None:
    """How often such a run is evaluated: every `eval_every` steps, and after the last step."""
    steps, every = config.get("steps"), config.get("eval_every")
    if isinstance(steps, int) and isinstance(every, int) and steps > 0 and every > 0:
        return -(-steps // every)
    return None
