"""What a column of a table is: defined once for the terminal, markdown, the page, CSV and LaTeX."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Flag, auto
from typing import Any, Generic, NamedTuple, TypeVar

from sslbench.report.compare.differences import Interval
from sslbench.report.compare.groups import MeanStd
from sslbench.system.text import ellipsize

NOTHING = "-"
_LONGEST = 60  # characters of what all rows share

T = TypeVar("T")


class Form(Flag):
    """Where a table is shown."""

    NARROW = auto()  # a terminal that has no room for the columns of a wide one
    WIDE = auto()
    MARKDOWN = auto()
    PAGE = auto()
    LATEX = auto()
    FILES = MARKDOWN | PAGE
    ALL = NARROW | WIDE | FILES | LATEX


class Cell(NamedTuple):
    """What a cell says, and the number it is sorted by (None sorts last)."""

    text: str
    value: float | None = None


@dataclass(frozen=True)
class Column(Generic[T]):
    """A column of a table whose rows are made of a `T` each.

    Attributes:
        title: its name, the same in every form.
        value: what a row has in it: a text, a number that is shown as it is, or a cell; None for nothing.
        number: whether it holds numbers, which are set to the right.
        forms: where it is shown.
        optional: whether it is left out where no row has anything in it.
        shared: whether it is left out, and said once, where all rows agree in it.
        kind: what the page calls its cells, for its style sheet.
    """

    title: str
    value: Callable[[T], Cell | str | float | None]
    number: bool = False
    forms: Form = Form.ALL
    optional: bool = False
    shared: bool = False
    kind: str = ""

    def cell(self, row: T) -> Cell:
        """Its cell in a row."""
        found = self.value(row)
        if isinstance(found, Cell):
            return found
        if found is None or found == "":
            return Cell("" if self.optional else NOTHING)
        return Cell(found) if isinstance(found, str) else Cell(str(found), found)


class Table(NamedTuple):
    """Columns, rows with a cell for each, and what all rows share, such as ``dataset mnist, labels 100``."""

    columns: Sequence[Column[Any]]
    rows: Sequence[Sequence[Cell]]
    shared: str


def make_table(columns: Sequence[Column[T]], rows: Iterable[T], form: Form) -> Table:
    """The table of some rows as `form` shows it; in markdown, shared columns stay."""
    shown = [column for column in columns if form in column.forms]
    cells = [[column.cell(row) for column in shown] for row in rows]
    kept, shared = [], []
    for place, column in enumerate(shown):
        texts = {row[place].text for row in cells}
        if column.shared and len(texts) == 1 and form != Form.MARKDOWN:
            shared.append(f"{column.title} {ellipsize(texts.pop(), _LONGEST)}")
        elif any(texts) or not column.optional:
            kept.append(place)
    kept_cells = [[row[place] for place in kept] for row in cells]
    return Table([shown[place] for place in kept], kept_cells, ", ".join(shared))


def format_mean_std(value: MeanStd, single: str = "n=1") -> str:
    """A fraction in percent, ``mean ± std``; one value is marked with `single`."""
    if value.std is None:
        return f"{100 * value.mean:.2f} ({single})"
    return f"{100 * value.mean:.2f} ± {100 * value.std:.2f}"


def format_points(fraction: float) -> str:
    """A difference in percentage points; one that rounds to nothing has no minus."""
    return f"{round(100 * fraction, 2) + 0.0:+.2f}"


def format_interval(interval: Interval | None) -> str:
    """Fractions in points, ``[low, high]``."""
    return f"[{format_points(interval[0])}, {format_points(interval[1])}]" if interval else NOTHING


def number_cell(value: float | None, digits: int, scale: float = 1) -> Cell | None:
    """`value` times `scale` with so many digits after the point, sorted by `value`; None without a value."""
    return None if value is None else Cell(f"{scale * value:.{digits}f}", value)


def number_column(title: str, value: Callable[[T], Cell | str | float | None], **options: Any) -> Column[T]:
    """A column of numbers, such as `number_cell` writes; `options` are attributes of `Column`."""
    return Column(title, value, number=True, **options)
