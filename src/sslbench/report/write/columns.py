"""What a column of a table is: defined once for the terminal, markdown, the page, CSV and LaTeX."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Flag, auto
from typing import Any, Generic, NamedTuple, TypeVar

from sslbench.report.compare.differences import Interval
from sslbench.report.compare.groups import MeanStd

NOTHING = "-"

T = TypeVar("T")


class Form(Flag):
    """Where a table is shown."""

    TERMINAL = auto()
    MARKDOWN = auto()
    PAGE = auto()
    LATEX = auto()
    FILES = MARKDOWN | PAGE
    ALL = TERMINAL | FILES | LATEX


class Cell(NamedTuple):
    """What a cell says, and the number it is sorted by (None sorts last)."""

    text: str
    value: float | None = None


@dataclass(frozen=True)
class Column(Generic[T]):
    """A column of a table whose rows are made of a `T` each.

    Attributes:
        title: its name, the same in every form.
        cell: makes its cell in a row.
        csv: the fields of a row that ``--table`` has in its place; none if it has none.
        number: whether it holds numbers, which are set to the right and never broken.
        forms: where it is shown.
        optional: whether it is left out where no row has anything in it.
        shared: whether it is left out, and said once, where all rows agree in it.
        first: whether it stands at the left of the page, where it is seen without scrolling.
        drop: its place among the columns that a narrow terminal leaves out, 1 first; 0 if it always stays.
        tells_apart: whether it keeps its place in that order only where rows differ in it, and goes early
            otherwise.
        brief: its title on a terminal that has room for the first word of its cells alone.
        kind: what the style sheet of the page calls its cells.
        in_full: whether the page shows even a long text whole.
    """

    title: str
    cell: Callable[[T], Cell]
    csv: Callable[[T], dict[str, Any]] = lambda _: {}
    number: bool = False
    forms: Form = Form.ALL
    optional: bool = False
    shared: bool = False
    first: bool = False
    drop: int = 0
    tells_apart: bool = False
    brief: str = ""
    kind: str = ""
    in_full: bool = False


@dataclass(frozen=True)
class Table:
    """Columns, and rows with a cell for each."""

    columns: tuple[Column[Any], ...]
    rows: list[list[Cell]]

    def cells(self, place: int) -> list[Cell]:
        """The cells of one column, from top to bottom."""
        return [row[place] for row in self.rows]

    def at(self, places: Sequence[int]) -> Table:
        """The table with the columns at these places."""
        columns = tuple(self.columns[place] for place in places)
        return Table(columns, [[row[place] for place in places] for row in self.rows])

    def without_shared(self) -> tuple[Table, dict[str, str]]:
        """Without the columns that may be said once and in which all rows agree, and their cells by title."""
        agreed = {
            place: self.rows[0][place].text
            for place, column in enumerate(self.columns)
            if column.shared and len({cell.text for cell in self.cells(place)}) == 1
        }
        rest = self.at([place for place in range(len(self.columns)) if place not in agreed])
        return rest, {self.columns[place].title: text for place, text in agreed.items()}


def make_table(columns: Sequence[Column[T]], rows: Iterable[T], form: Form) -> Table:
    """The table of some rows as `form` shows it; columns that are optional and empty are left out."""
    shown = tuple(column for column in columns if form in column.forms)
    table = Table(shown, [[column.cell(row) for column in shown] for row in rows])
    filled = [any(cell.text for cell in table.cells(place)) for place in range(len(shown))]
    return table.at([place for place, column in enumerate(shown) if filled[place] or not column.optional])


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


def number_cell(value: float | None, digits: int | None = None, scale: float = 1) -> Cell:
    """`value` times `scale` with so many digits after the point, or as it is; it sorts by `value`."""
    if value is None:
        return Cell(NOTHING)
    return Cell(str(value) if digits is None else f"{scale * value:.{digits}f}", value)


def text_column(title: str, of: Callable[[T], str | None], csv: str = "", **options: Any) -> Column[T]:
    """The column of a text that may be absent, under the name `csv` in ``--table``."""
    nothing = "" if options.get("optional") else NOTHING
    return Column(title, lambda row: Cell(of(row) or nothing), _field(csv, of), **options)


def number_column(
    title: str,
    of: Callable[[T], float | None],
    csv: str = "",
    *,
    digits: int | None = None,
    scale: float = 1,
    **options: Any,
) -> Column[T]:
    """The column of a number that may be absent, written as by `number_cell`; likewise in ``--table``."""
    return Column(
        title, lambda row: number_cell(of(row), digits, scale), _field(csv, of), number=True, **options
    )


def _field(name: str, of: Callable[[T], Any]) -> Callable[[T], dict[str, Any]]:
    return lambda row: {name: of(row)} if name else {}
