"""The colours of algorithms: the same in all figures but those of the variants of one algorithm."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sslbench.report.compare.groups import BASELINE, Group, best_by_validation, collected, validation_order
from sslbench.system.text import ellipsize

# Okabe and Ito's palette without its yellow, which is faint on white, then four of Paul Tol's muted colours.
# Both are made for colour-blind readers; where colours repeat, markers differ.
COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#882255",
    "#332288",
    "#999933",
    "#117733",
)
BASELINE_COLOUR = "#444444"
MARKERS = ("o", "^", "s", "D", "v", "P")
MOST_CURVES = 8  # of one panel, beside the baselines'
_MOST_BASELINES = 2  # of one panel: of several models
_LONGEST = 28  # characters of a legend's entry, and as many of the settings


class Style(NamedTuple):
    """How a curve looks."""

    colour: str
    marker: str


def style(place: int) -> Style:
    """The `place`-th style, from 0."""
    return Style(COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)])


class Palette:
    """A colour for each algorithm, in the order of their names, and a grey for the baseline.

    Several models of an algorithm share its colour and have markers of their own.
    """

    def __init__(self, groups: Iterable[Group]) -> None:
        keys = {_key(group) for group in groups}
        others = sorted({name for name, _ in keys} - {BASELINE})
        self._styles: dict[tuple[str, str], Style] = {}
        for first, name in [(0, BASELINE), *enumerate(others)]:
            colour = BASELINE_COLOUR if name == BASELINE else style(first).colour
            for place, key in enumerate(sorted(key for key in keys if key[0] == name), start=first):
                self._styles[key] = Style(colour, style(place).marker)

    def of(self, group: Group) -> Style:
        """The style of the group's algorithm and model, which must be among those of the palette."""
        return self._styles[_key(group)]


def labels(groups: Sequence[Group], rows: Iterable[Group] = ()) -> list[str]:
    """Legend entries of the groups that are drawn, with the model and the settings where they differ.

    Groups with the same entry get their row in the tables, and so does every variant of an algorithm whose
    other variants among `rows`, the groups of the task, are not drawn.
    """
    models = {group.identity.model for group in groups}
    names = []
    for group in groups:
        name = f"{group.label}, {group.identity.model}" if len(models) > 1 else group.label
        name = ellipsize(name, _LONGEST)
        names.append(f"{name}, {ellipsize(group.settings, _LONGEST)}" if group.settings else name)
    count = Counter(names)
    drawn = {group.number for group in groups}
    others = {_key(group) for group in rows if group.number not in drawn}
    return [
        f"{name}, row {group.number}" if count[name] > 1 or _key(group) in others else name
        for name, group in zip(names, groups, strict=True)
    ]


def _key(group: Group) -> tuple[str, str]:
    return group.identity.algorithm, group.identity.model


def best_variants(groups: Iterable[Group]) -> list[Group]:
    """Of each algorithm and model the group with the best validation accuracy, the best of all first."""
    best = [found for members in collected(groups, _key).values() if (found := best_by_validation(members))]
    return sorted(best, key=validation_order)


def most_important(groups: Iterable[Group]) -> list[Group]:
    """The groups for one panel: the best variants of up to `MOST_CURVES` algorithms, then the baselines."""
    best = best_variants(groups)
    algorithms = [group for group in best if group.identity.algorithm != BASELINE]
    return [
        *algorithms[:MOST_CURVES],
        *[group for group in best if group.identity.algorithm == BASELINE][:_MOST_BASELINES],
    ]
