"""What tells rows apart that no column tells apart: the settings in which configurations differ."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sslbench.config.identity import MAY_BE_IGNORED, SEEDS, identity_of
from sslbench.config.saved import flat
from sslbench.config.schema import GROUPS
from sslbench.errors import UserError
from sslbench.report.compare.groups import Group, Task
from sslbench.report.read.fields import read_text
from sslbench.system.paths import relative
from sslbench.system.safe_files import parse_yaml
from sslbench.system.text import printable, short

_CONFIG = "config.yaml"
#: Settings and groups that have a column of their own.
_COLUMNS = (*SEEDS, "num_labels", "num_valid", "steps")
_CHOSEN = ("dataset", "model", "algorithm", "loss")
_CHOICES = ("optimizer", "schedule")
#: Parts of every configuration.
_NEEDED = ("dataset", "model", "algorithm", *_CHOICES, "choices")
_LONGEST = 60  # characters of a value


@dataclass(frozen=True)
class _Settings:
    """Of one group.

    Attributes:
        values: by key such as ``optimizer.lr``, without those that have a column.
        choices: the name that was chosen in each configuration group; a loss only where the method has one.
    """

    values: dict[str, Any]
    choices: dict[str, str | None]

    def kind(self, key: str) -> Hashable:
        """What must be the same for values of `key` to be set against each other.

        Another optimizer has other keys, and the weight of a method is another thing in another method.
        Default weights follow the distance.
        """
        head, dot, _ = key.partition(".")
        if not dot or head not in GROUPS:
            return None
        heads = ("algorithm", "loss") if head == "algorithm" else (head,)
        return tuple(self.choices.get(name) for name in heads)


def with_settings(groups: Iterable[Group]) -> tuple[list[Group], list[str]]:
    """The groups with `Group.settings`, read from the configurations of their runs or from a sweep's plan.

    Within a task, a setting counts where its values differ: those of the run and of its optimizer, say,
    between all rows, and those of a method between the rows of that method. What only some have, only they
    show.

    Returns:
        The groups, and a line of warning for each configuration that cannot be read.
    """
    groups, warnings = list(groups), list[str]()
    tasks: dict[Task, list[Group]] = defaultdict(list)
    for group in groups:
        tasks[group.task].append(group)
    told: dict[int, dict[str, str]] = {}
    for members in tasks.values():
        if len(members) > 1:
            told |= _differing(
                {group.number: found for group in members if (found := _read(group, warnings))}
            )
    shown = Counter(map(_tail, {key for values in told.values() for key in values}))
    return [
        replace(group, settings=_in_words(told[group.number], shown)) if told.get(group.number) else group
        for group in groups
    ], warnings


def _read(group: Group, warnings: list[str]) -> _Settings | None:
    """From the first run that has a configuration; None if neither a run nor a plan has."""
    for folder in [*(run.folder for run in group.runs), *(run.folder for run in group.missing)]:
        path = folder / _CONFIG
        try:
            found = parse_yaml(read_text(path), relative(path))
            if not _is_whole(found):
                raise UserError(f"{relative(path)} is not a run's configuration")
        except UserError as error:
            if not isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
                warnings.append(f"{error}; its settings are not compared")
            continue
        return _flattened(group, found)
    planned = next((run.settings for run in group.missing if _is_whole(run.settings)), None)
    return _flattened(group, planned) if planned else None


def _is_whole(found: object) -> bool:
    """Beside half a configuration, a whole one would differ in everything."""
    return isinstance(found, Mapping) and all(isinstance(found.get(name), dict) for name in _NEEDED)


def _flattened(group: Group, found: Mapping[str, Any]) -> _Settings | None:
    # What an algorithm is given as its distance is the loss, which is compared as such.
    left_out = (*_COLUMNS, "algorithm.distance")
    try:
        values = {
            key: value
            for key, value in flat(identity_of(found))
            if not any(key == name or key.startswith(f"{name}.") for name in left_out)
        }
    except RecursionError:
        return None
    choices: dict[str, str | None] = {name: getattr(group.head, name) for name in _CHOSEN}
    for name in _CHOICES:
        if isinstance(choice := found["choices"].get(name), str):
            choices[name] = values[name] = choice
    return _Settings(values, choices)


def _differing(settings: Mapping[int, _Settings]) -> dict[int, dict[str, str]]:
    """By row, the values in which rows of the same kind differ."""
    kinds: dict[tuple[str, Hashable], list[int]] = defaultdict(list)
    keys = dict.fromkeys(key for found in settings.values() for key in found.values)
    for key in keys:
        for row, found in settings.items():
            kinds[key, found.kind(key)].append(row)
    told: dict[int, dict[str, str]] = defaultdict(dict)
    for (key, _), rows in kinds.items():
        values = {row: settings[row].values[key] for row in rows if key in settings[row].values}
        # Compared whole, before what is shown is shortened.
        lacking = 0 < len(values) < len(rows) and key not in MAY_BE_IGNORED
        if len(set(map(json.dumps, values.values()))) > 1 or lacking:
            for row, value in values.items():
                told[row][key] = _value(value)
    return told


def _value(value: Any) -> str:
    """As it would be typed, if it were typed."""
    if isinstance(value, str):
        return short(printable(value), _LONGEST)
    return short(printable(json.dumps(value, ensure_ascii=False).replace('"', "")), _LONGEST)


def _tail(key: str) -> str:
    head, dot, tail = key.partition(".")
    return tail if dot and head in GROUPS else key


def _in_words(values: Mapping[str, str], shown: Counter[str]) -> str:
    """Such as ``lr=0.001, schedule=cosine``; a key is whole where its end alone could be another's."""
    names = {key: _tail(key) if shown[_tail(key)] == 1 else key for key in values}
    return ", ".join(f"{names[key]}={word}" for key, word in values.items())
