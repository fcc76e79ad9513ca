"""The tables as the terminal shows them."""

import os
import textwrap
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from sslbench.report.compare.comparison import Comparison
from sslbench.report.compare.groups import by_task
from sslbench.report.write.columns import Cell, Column, Form, Table
from sslbench.report.write.notes import ON_BOOTSTRAP, ON_RANKS, ON_SELECTION, on_rows
from sslbench.report.write.result_tables import (
    DIFFERENCE,
    RANK,
    SELECTED,
    missing_table,
    run_table,
    summary_table,
)
from sslbench.system.paths import relative
from sslbench.system.text import ellipsize

_WIDTH_WITHOUT_TERMINAL = 220  # characters: a pipe has no width, and 80 would break the table's cells
_WIDEST_NOTE = 110  # characters of a line of text
_LONGEST = 60  # characters of a cell; a name may have thousands
_LONGEST_REASON = 1000  # of what went wrong, and of a folder
_NARROW = 10  # characters to which a column of names may shrink
_BETWEEN = 3  # characters that a column takes beside its text
_ALIKE = 15  # when a column is left out that could tell rows apart, if all rows are alike in it


def _width(column: Column[Any], cells: Iterable[Cell]) -> int:
    """The least a column needs: a number is never cut or broken, a name breaks into lines."""
    longest = max((cell_len(cell.text) for cell in cells), default=0)
    title = len(column.title) if column.number else max(map(len, column.title.split()))
    return max(title, longest if column.number else min(longest, _NARROW)) + _BETWEEN


def _brief(table: Table) -> Table:
    """The table with the brief form of those columns that have one."""

    def cells(row: list[Cell]) -> list[Cell]:
        columns = zip(row, table.columns, strict=True)
        return [Cell(cell.text.partition(" ")[0]) if column.brief else cell for cell, column in columns]

    columns = tuple(replace(column, title=column.brief or column.title) for column in table.columns)
    return Table(columns, list(map(cells, table.rows)))


def _fitted(table: Table, available: int) -> tuple[Table, list[str]]:
    """The table without what does not fit into `available` characters, and what was left out of it."""

    def width() -> int:
        return 1 + sum(_width(column, table.cells(place)) for place, column in enumerate(table.columns))

    def importance(place: int) -> int:
        column = table.columns[place]
        alike = len({cell.text for cell in table.cells(place)}) < 2
        return _ALIKE if column.tells_apart and alike else column.drop

    dropped = []
    if brief := width() > available:  # before whole columns go
        table = _brief(table)
    while width() > available and any(column.drop for column in table.columns):
        places = range(len(table.columns))
        out = min((place for place in places if table.columns[place].drop), key=importance)
        dropped.append(table.columns[out].title)
        table = table.at([place for place in places if place != out])
    if brief and any(column.brief for column in table.columns):
        dropped.append("intervals of the difference")
    return table, dropped


def _print(table: Table, width: int | None, longest: int = _LONGEST) -> tuple[set[str], list[str]]:
    """Print a table; returns the titles of its columns, and what was left out since it did not fit."""
    console = _console(width)
    cut = [[Cell(ellipsize(cell.text, longest), cell.value) for cell in row] for row in table.rows]
    fitted, dropped = _fitted(Table(table.columns, cut), console.width)
    drawn = RichTable()
    for column in fitted.columns:
        number = column.number
        drawn.add_column(column.title, justify="right" if number else "left", no_wrap=number, overflow="fold")
    for row in fitted.rows:
        # Text, so that a bracket in a name is not taken for markup.
        drawn.add_row(*(Text(cell.text) for cell in row))
    console.print(drawn)
    return {column.title for column in fitted.columns}, dropped


def _console(width: int | None) -> Console:
    console = Console(width=width)
    if width is None and not console.is_terminal:
        columns = os.environ.get("COLUMNS", "")
        known = columns.isdecimal() and int(columns)
        return Console(width=int(columns) if known else _WIDTH_WITHOUT_TERMINAL)
    return console


def _note(text: str, width: int | None) -> None:
    print(textwrap.fill(text, min(_console(width).width, _WIDEST_NOTE), break_on_hyphens=False))


def _note_dropped(titles: Iterable[str], width: int | None) -> None:
    if names := ", ".join(dict.fromkeys(titles)):
        _note(f"left out, as the terminal is narrow: {names}; --html, --out and --csv have them", width)


def _summaries(comparison: Comparison, width: int | None) -> set[str]:
    """A table for each task, as ranks and differences are within one; returns the titles that are shown."""
    shown: set[str] = set()
    dropped: list[str] = []
    for groups in by_task(comparison.groups).values():
        table, shared = summary_table(comparison, Form.TERMINAL, groups).without_shared()
        print(", ".join(f"{title} {ellipsize(text, _LONGEST)}" for title, text in shared.items()) + ":")
        titles, left_out = _print(table, width)
        shown |= titles
        dropped += left_out
    _note_dropped(dropped, width)
    return shown


def show(comparison: Comparison, *, seeds: bool, width: int | None = None) -> None:
    """Print the summary, each run if `seeds`, and what is missing or left out.

    The `width` is in characters; None for that of the terminal.
    """
    shown = _summaries(comparison, width)
    intervals = DIFFERENCE.title in shown
    _note("mean ± sample standard deviation over n seeds", width)
    if intervals:
        _note("difference: to supervised, in points, with a bootstrap interval over n pairs", width)
    elif DIFFERENCE.brief in shown:
        _note("difference: to supervised, in points", width)
    ranks, selected = RANK.title in shown, SELECTED.title in shown
    notes = [ON_RANKS] if ranks else []
    for sentence in (*notes, ON_SELECTION, *on_rows(comparison, selected=selected, ranks=ranks)):
        _note(sentence, width)
    if seeds:
        _note_dropped(_print(run_table(comparison, Form.TERMINAL), width)[1], width)
    if comparison.missing:
        print("not finished:")
        _note_dropped(_print(missing_table(comparison, Form.TERMINAL), width, _LONGEST_REASON)[1], width)
    if comparison.copies:
        print(f"left out as copies: {', '.join(relative(run.folder) for run in comparison.copies)}")
    if intervals and any(difference.bootstrap for difference in comparison.row_differences.values()):
        _note(f"{ON_BOOTSTRAP} --out and --html have it.", width)
