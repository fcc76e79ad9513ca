"""The tables as the terminal shows them."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sslbench.report.columns import (
    MISSING_COLUMNS,
    ON_CHOICE,
    RUN_COLUMNS,
    SUMMARY_COLUMNS,
    Cell,
    Column,
    missing_rows,
    run_cells,
    summary_cells,
    without_shared,
)
from sslbench.report.comparison import Comparison
from sslbench.report.text import relative, short

_WIDTH_WITHOUT_TERMINAL = 220  # characters: a pipe has no width, and 80 would break the table's cells
_LONGEST = 60  # characters of a cell; a name may have thousands
_LONGEST_REASON = 160  # of what went wrong, and of a folder
# Left to the files: a terminal is narrow.
_LEFT_OUT = ("at last step %", "median of 20 %", "val acc %")


def _print(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], longest: int = _LONGEST) -> None:
    shown = [place for place, column in enumerate(columns) if column.name not in _LEFT_OUT]
    table = Table()
    for place in shown:
        table.add_column(columns[place].name, justify="right" if columns[place].right else "left")
    for row in rows:
        # Text, so that a bracket in a name is not taken for markup.
        table.add_row(*(Text(short(row[place].text, longest)) for place in shown))
    console = Console()
    (console if console.is_terminal else Console(width=_WIDTH_WITHOUT_TERMINAL)).print(table)


def show(comparison: Comparison, *, seeds: bool) -> None:
    """Print the summary, each run if `seeds`, and what is missing or left out."""
    groups = comparison.groups
    columns, rows, shared = without_shared(
        SUMMARY_COLUMNS, [summary_cells(group, comparison) for group in groups]
    )
    _print(columns, rows)
    if shared:
        print("all rows: " + ", ".join(f"{name} {short(text, _LONGEST)}" for name, text in shared.items()))
    print(
        "mean ± sample standard deviation over n seeds; difference to supervised in points, with a bootstrap"
    )
    print(
        "interval over n pairs; rank among rows with the same data set, labels, validation images and steps"
    )
    print(ON_CHOICE)
    if seeds:
        _print(RUN_COLUMNS, [run_cells(group, run) for group in groups for run in group.runs])
    if comparison.missing:
        print("not finished:")
        _print(MISSING_COLUMNS, missing_rows(comparison), _LONGEST_REASON)
    if comparison.copies:
        print(f"left out as copies: {', '.join(relative(run.folder) for run in comparison.copies)}")
