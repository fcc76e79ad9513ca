"""The tables as the terminal shows them."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sslbench.report.columns import (
    MISSING_COLUMNS,
    RUN_COLUMNS,
    Cell,
    Column,
    missing_rows,
    run_cells,
    summary_table,
    without_shared,
)
from sslbench.report.comparison import Comparison
from sslbench.report.notes import ON_BOOTSTRAP, ON_CHOICE, on_draws
from sslbench.report.text import relative
from sslbench.text import short

_WIDTH_WITHOUT_TERMINAL = 220  # characters: a pipe has no width, and 80 would break the table's cells
_LONGEST = 60  # characters of a cell; a name may have thousands
_LONGEST_REASON = 1000  # of what went wrong, and of a folder
# Left to the files: a terminal is narrow.
_LEFT_OUT = ("at last step %", "median of 20 %", "val acc %")
# What goes first where even the rest is too wide.
_DROPPED = (
    *("commit", "torch", "steps/s", "device", "seconds", "ECE %", "split", "rank", "supervised %", "model"),
    *("validation images", "steps", "val acc % @ step", "loss", "difference [95 %]", "dataset", "labels"),
)
_NARROW = 10  # characters to which a column of names may shrink
_BETWEEN = 3  # characters that a column takes beside its text


def _width(column: Column, cells: Sequence[str]) -> int:
    """The least a column needs: a number is never cut or broken, a name breaks into lines."""
    longest = max(map(cell_len, cells), default=0)
    head = max(map(len, column.name.split())) if not column.right else len(column.name)
    return max(head, longest if column.right else min(longest, _NARROW)) + _BETWEEN


def _fitting(widths: dict[str, int], available: int) -> list[str]:
    """The columns to leave out so that the others fit; what is most important stays in any case."""
    dropped: list[str] = []
    for name in _DROPPED:
        if sum(widths.values()) + 1 <= available:
            break
        if widths.pop(name, None) is not None:
            dropped.append(name)
    return dropped


def _print(
    columns: Sequence[Column],
    rows: Sequence[Sequence[Cell]],
    available: int | None,
    longest: int = _LONGEST,
) -> None:
    console = Console(width=available)
    if available is None and not console.is_terminal:
        console = Console(width=_WIDTH_WITHOUT_TERMINAL)
    shown = {column.name: place for place, column in enumerate(columns) if column.name not in _LEFT_OUT}
    cells = {name: [short(row[place].text, longest) for row in rows] for name, place in shown.items()}
    widths = {name: _width(columns[place], cells[name]) for name, place in shown.items()}
    dropped = _fitting(widths, console.width)
    table = Table()
    for name, place in shown.items():
        if name not in dropped:
            right = columns[place].right
            table.add_column(name, justify="right" if right else "left", no_wrap=right, overflow="fold")
    for row in range(len(rows)):
        # Text, so that a bracket in a name is not taken for markup.
        table.add_row(*(Text(cells[name][row]) for name in shown if name not in dropped))
    console.print(table)
    if dropped:
        names = ", ".join(name for name in shown if name in dropped)
        print(f"left out, as the terminal is narrow: {names}; --html, --out and --csv have them")


def show(comparison: Comparison, *, seeds: bool, width: int | None = None) -> None:
    """Print the summary, each run if `seeds`, and what is missing or left out.

    Args:
        comparison: what to show.
        seeds: whether each run has a row.
        width: in characters; None for that of the terminal.
    """
    groups = comparison.groups
    columns, rows, shared = without_shared(*summary_table(comparison))
    _print(columns, rows, width)
    if shared:
        print("all rows: " + ", ".join(f"{name} {short(text, _LONGEST)}" for name, text in shared.items()))
    print(
        "mean ± sample standard deviation over n seeds; difference to supervised in points, with a bootstrap"
    )
    print(
        "interval over n pairs; rank among rows with the same data set, labels, validation images and steps"
    )
    print(ON_CHOICE)
    if draws := on_draws(groups):
        print(draws)
    if seeds:
        _print(RUN_COLUMNS, [run_cells(group, run) for group in groups for run in group.runs], width)
    if comparison.missing:
        print("not finished:")
        _print(MISSING_COLUMNS, missing_rows(comparison), width, _LONGEST_REASON)
    if comparison.copies:
        print(f"left out as copies: {', '.join(relative(run.folder) for run in comparison.copies)}")
    if any(gap.bootstrap for gap in comparison.beside.values()):
        print(f"{ON_BOOTSTRAP} --out and --html have it.")
