"""The configurations of groups, from runs or the plan of a sweep, and names that tell data apart."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Any

from sslbench.config.identity import ignored
from sslbench.errors import UserError
from sslbench.report.compare.groups import Group
from sslbench.rundir.records import CONFIG
from sslbench.system.paths import relative
from sslbench.system.safe_files import parse_yaml, read_text
from sslbench.system.text import ellipsize, escape_control

_LONGEST = 40  # characters of a file's name
#: Parts of every configuration: compared with a part of one, a whole one would differ in everything. The plan
#: of a sweep has no model where the algorithm builds its own.
_NEEDED = ("dataset", "algorithm", "optimizer", "schedule", "choices")

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


def is_labelled_only(config: Configuration) -> bool:
    """Whether the algorithm says that it reads no unlabelled images."""
    return "batch.unlabelled" in ignored(config["algorithm"])


def has_strong_view(config: Configuration) -> bool:
    """Whether the algorithm has a strong view."""
    return config["algorithm"].get("strong") is not None


def data_set_names(groups: Iterable[Group], configs: Mapping[int, Configuration]) -> dict[int, str]:
    """The name of each group's data set, by the group's number: no two data sets have the same.

    Data sets of one name are different if results name different hashes of their files. They have the names
    of their files behind their own, or a number where the files do not tell them apart.
    """
    found: dict[str, dict[str, list[Group]]] = defaultdict(lambda: defaultdict(list))
    for group in groups:
        found[group.identity.dataset][group.identity.dataset_sha256 or ""].append(group)
    names: dict[int, str] = {}
    for name, data_sets in found.items():
        members = [data_sets[sha] for sha in sorted(data_sets)]
        files = [max(_file(configs.get(group.number, {})) for group in same) for same in members]
        for number, (same, file) in enumerate(zip(members, files, strict=True), start=1):
            place = f"data {number}" if files.count(file) > 1 or not file else ""
            what = ", ".join(filter(None, (file, place)))
            shown = f"{name} ({what})" if len(members) > 1 else name
            names |= {group.number: shown for group in same}
    return names


def _file(config: Configuration) -> str:
    path = config.get("dataset", {}).get("path")
    return ellipsize(escape_control(PurePath(path).name), _LONGEST) if isinstance(path, str) else ""
