"""The settings in which rows differ and for which there is no column."""

import json
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping
from typing import Any, NamedTuple

from sslbench.config.identity import MAY_BE_IGNORED, SEEDS, identity_of
from sslbench.config.saved import flat
from sslbench.config.schema import GROUPS
from sslbench.report.compare.configurations import Configuration
from sslbench.report.compare.groups import Group, by_task
from sslbench.system.text import ellipsize, escape_control

# Keys that have a column of their own. The distance of an algorithm is its loss, which is compared as such.
_COLUMNS = (*SEEDS, "num_labels", "num_valid", "steps", "algorithm.distance")
_OPERATIONS = "dataset.images.operations."  # of strong views, so only rows with such a view have them
_LONGEST = 60  # characters of a value


class _Settings(NamedTuple):
    """The settings of one group.

    Attributes:
        values: by key such as ``optimizer.lr``, without those that have a column.
        choices: the name that was chosen in each configuration group; a loss only if the algorithm has one.
    """

    values: dict[str, Any]
    choices: dict[str, str | None]

    def kind(self, key: str) -> Hashable:
        """What must be equal for values of `key` to be comparable.

        Another optimizer has other keys, and the weight of one algorithm is not the weight of another.
        Default weights follow the distance. Operations are compared between rows that have any.
        """
        if key.startswith(_OPERATIONS):
            return any(name.startswith(_OPERATIONS) for name in self.values)
        part, dot, _ = key.partition(".")
        loss = self.choices["loss"] if part == "algorithm" else None
        return (self.choices.get(part), loss) if dot and part in GROUPS else None


def settings_of(groups: Iterable[Group], configs: Mapping[int, Configuration]) -> dict[int, str]:
    """The settings of each group that has any, by the group's number, such as ``lr=0.001, schedule=cosine``.

    Within a task, a setting counts where its values differ: settings of the run or of its optimizer between
    all rows, and settings of an algorithm between the rows of that algorithm. A setting that only some rows
    have is shown in those rows.
    """
    differing: dict[int, dict[str, str]] = {}
    for members in by_task(groups).values():
        known = [(g.number, _flattened(g, configs[g.number])) for g in members if g.number in configs]
        differing |= _differing({number: row for number, row in known if row})
    count = Counter(map(_last_part, {key for values in differing.values() for key in values}))

    def name(key: str) -> str:
        # A key is whole where its last part alone could be that of another.
        return _last_part(key) if count[_last_part(key)] == 1 else key

    return {
        number: ", ".join(f"{name(key)}={value}" for key, value in values.items())
        for number, values in differing.items()
    }


def _flattened(group: Group, config: Configuration) -> _Settings | None:
    try:
        values = {
            key: value
            for key, value in flat(identity_of(config))
            if not any(key == name or key.startswith(f"{name}.") for name in _COLUMNS)
        }
    except RecursionError:
        return None
    run = group.identity
    choices = {"dataset": run.dataset, "model": run.model, "algorithm": run.algorithm, "loss": run.loss}
    for name in ("optimizer", "schedule"):
        if isinstance(choice := config["choices"].get(name), str):
            choices[name] = values[name] = choice
    return _Settings(values, choices)


def _differing(rows: Mapping[int, _Settings]) -> dict[int, dict[str, str]]:
    """By row, the values in which rows of the same kind differ."""
    found: dict[int, dict[str, str]] = defaultdict(dict)
    for key in dict.fromkeys(key for row in rows.values() for key in row.values):
        kinds: dict[Hashable, list[int]] = defaultdict(list)
        for number, row in rows.items():
            kinds[row.kind(key)].append(number)
        for members in kinds.values():
            values = {number: rows[number].values[key] for number in members if key in rows[number].values}
            lacking = 0 < len(values) < len(members) and key not in MAY_BE_IGNORED
            # Compared whole, before what is shown is shortened.
            if len(set(map(json.dumps, values.values()))) > 1 or lacking:
                for number, value in values.items():
                    found[number][key] = _value(value)
    return found


def _value(value: Any) -> str:
    """As it would be typed, if it were typed."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False).replace('"', "")
    return ellipsize(escape_control(text), _LONGEST)


def _last_part(key: str) -> str:
    part, dot, rest = key.partition(".")
    return rest if dot and part in GROUPS else key
