"""The configurations of groups, from their runs or the plan of their sweep, and names that tell data apart.

Older versions called each data file of one's own ``npz``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
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


@dataclass
class _DataSet:
    """What is known of the data of some groups.

    Attributes:
        splits: the hash of the split by all that decides it beside the data.
        digests: the hashes of the data file that results name.
        files: the paths that configurations name.
        rows: the numbers of the groups.
    """

    splits: dict[tuple[object, ...], str]
    digests: set[str]
    files: set[str]
    rows: list[int]

    def may_be(self, other: _DataSet) -> bool:
        """Whether both are the same data: a split is a function of its seed, its sizes and the classes."""
        if self.digests and other.digests:
            return bool(self.digests & other.digests)
        if shared := self.splits.keys() & other.splits.keys():
            return all(self.splits[draw] == other.splits[draw] for draw in shared)
        return not self.files or not other.files or bool(self.files & other.files)


def data_set_names(groups: Iterable[Group], configs: Mapping[int, Configuration]) -> dict[int, str]:
    """The name of each group's data set, by the group's number: no two data sets have the same.

    Data sets of one name are different if results name different hashes of their files. Without such hashes
    they are different if the same split seed gives different splits or, where no split seed is common, if
    the configurations name different files. They have the names of their files behind their own, or a number
    where the files do not tell them apart.
    """
    found: dict[str, list[_DataSet]] = defaultdict(list)
    for group in sorted(groups, key=lambda group: group.identity.group):
        own = _known_of(group, configs.get(group.number, {}))
        same_name = found[group.identity.dataset]
        known = next((data for data in same_name if data.may_be(own)), None)
        if known:
            known.splits |= own.splits
            known.digests |= own.digests
            known.files |= own.files
            known.rows += own.rows
        else:
            same_name.append(own)
    names: dict[int, str] = {}
    for name, data_sets in found.items():
        paths = [PurePath(min(data.files, default="")) for data in data_sets]
        files = [ellipsize(escape_control(path.name), _LONGEST) for path in paths]
        for number, (data, file) in enumerate(zip(data_sets, files, strict=True), start=1):
            place = f"data {number}" if files.count(file) > 1 or not file else ""
            what = ", ".join(filter(None, (file, place)))
            names |= dict.fromkeys(data.rows, f"{name} ({what})" if len(data_sets) > 1 else name)
    return names


def _known_of(group: Group, config: Configuration) -> _DataSet:
    dataset = config.get("dataset")
    path = dataset.get("path") if isinstance(dataset, Mapping) else None
    sizes = group.identity.num_labels, group.identity.num_valid, config.get("labelled_in_unlabelled")
    return _DataSet(
        {(*sizes, run.split_seed): run.split_hash for run in group.runs},
        {digest} if (digest := group.identity.dataset_sha256) else set(),  # older results have none
        {path} if isinstance(path, str) else set(),
        [group.number],
    )
