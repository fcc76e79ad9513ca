"""The tables as the terminal shows them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from itertools import groupby

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sslbench.report.compare.comparison import Comparison
from sslbench.report.write.columns import (
    MISSING_COLUMNS,
    RUN_COLUMNS,
    Cell,
    Column,
    missing_rows,
    run_cells,
    summary_table,
    without_blank,
    without_shared,
)
from sslbench.report.write.notes import ON_BOOTSTRAP, ON_CHOICE, on_rows
from sslbench.system.paths import relative
from sslbench.system.text import ellipsize

_WIDTH_WITHOUT_TERMINAL = 220  # characters: a pipe has no width, and 80 would break the table's cells
_LONGEST = 60  # characters of a cell; a name may have thousands
_LONGEST_REASON = 1000  # of what went wrong, and of a folder
# Left to the files: a terminal is narrow.
_LEFT_OUT = ("at last step %", "median of 20 %", "val acc %")
_DIFFERENCE = "difference [95 %]"
# What goes first where even the rest is too wide.
_DROPPED = (
    *("commit", "torch", "steps/s", "device", "seconds", "ECE %", "split", "rank", "supervised %"),
    *("validation images", "steps", "val acc % @ step", "dataset", "labels"),
)
# What tells rows apart goes last, where it does.
_APART = ("model", "loss", "settings")
_NARROW = 10  # characters to which a column of names may shrink
_BETWEEN = 3  # characters that a column takes beside its text


def _width(column: Column, cells: Sequence[str]) -> int:
    """The least a column needs: a number is never cut or broken, a name breaks into lines."""
    longest = max(map(cell_len, cells), default=0)
    head = max(map(len, column.name.split())) if not column.right else len(column.name)
    return max(head, longest if column.right else min(longest, _NARROW)) + _BETWEEN


def _fitting(widths: dict[str, int], available: int, order: Sequence[str]) -> list[str]:
    """The columns to leave out so that the others fit; what is most important stays in any case."""
    dropped: list[str] = []
    for name in order:
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
) -> list[str]:
    """Print a table; returns what was left out of it since it did not fit."""
    console = _console(available)
    shown = {column.name: column.right for column in columns if column.name not in _LEFT_OUT}
    places = {column.name: place for place, column in enumerate(columns)}
    cells = {name: [ellipsize(row[places[name]].text, longest) for row in rows] for name in shown}

    def widths() -> dict[str, int]:
        return {name: _width(Column(name, right), cells[name]) for name, right in shown.items()}

    dropped = []
    if _DIFFERENCE in shown and sum(widths().values()) + 1 > console.width:
        # Its mean alone, before whole columns go.
        shown = {name.partition(" [")[0]: right for name, right in shown.items()}
        cells["difference"] = [text.partition(" ")[0] for text in cells.pop(_DIFFERENCE)]
        dropped = ["intervals of the difference"]
    same = [name for name in _APART if len(set(cells.get(name, ""))) < 2]
    order = (*_DROPPED, *same, "by val.", "difference", *_APART)
    left_out = _fitting(widths(), console.width, order)
    table = Table()
    for name, right in shown.items():
        if name not in left_out:
            table.add_column(name, justify="right" if right else "left", no_wrap=right, overflow="fold")
    for row in range(len(rows)):
        # Text, so that a bracket in a name is not taken for markup.
        table.add_row(*(Text(cells[name][row]) for name in shown if name not in left_out))
    console.print(table)
    if "difference" in left_out:
        dropped = [_DIFFERENCE]
    return [*(name for name in shown if name in left_out and name != "difference"), *dropped]


def _console(width: int | None) -> Console:
    console = Console(width=width)
    if width is None and not console.is_terminal:
        told = os.environ.get("COLUMNS", "")
        return Console(width=int(told) if told.isdecimal() and int(told) else _WIDTH_WITHOUT_TERMINAL)
    return console


def _tell_dropped(names: Iterable[str]) -> None:
    if names := ", ".join(dict.fromkeys(names)):
        print(f"left out, as the terminal is narrow: {names}; --html, --out and --csv have them")


def _summaries(comparison: Comparison, width: int | None) -> None:
    """A table for each task: ranks and differences are within one."""
    columns, rows = summary_table(comparison)
    dropped: list[str] = []
    by_task = groupby(zip(comparison.groups, rows, strict=True), key=lambda entry: entry[0].task)
    for _, members in by_task:
        kept, cells, shared = without_shared(*without_blank(columns, [row for _, row in members]))
        print(", ".join(f"{name} {ellipsize(text, _LONGEST)}" for name, text in shared.items()) + ":")
        dropped += _print(kept, cells, width)
    _tell_dropped(dropped)


def show(comparison: Comparison, *, seeds: bool, width: int | None = None) -> None:
    """Print the summary, each run if `seeds`, and what is missing or left out.

    Args:
        comparison: what to show.
        seeds: whether each run has a row.
        width: in characters; None for that of the terminal.
    """
    _summaries(comparison, width)
    print(
        "mean ± sample standard deviation over n seeds; difference to supervised in points, with a bootstrap"
    )
    print(
        "interval over n pairs; rank among rows with the same data set, labels, validation images and steps"
    )
    print(ON_CHOICE)
    for sentence in on_rows(comparison):
        print(sentence)
    if seeds:
        runs = [run_cells(group, run) for group in comparison.groups for run in group.runs]
        _tell_dropped(_print(RUN_COLUMNS, runs, width))
    if comparison.missing:
        print("not finished:")
        _tell_dropped(_print(MISSING_COLUMNS, missing_rows(comparison), width, _LONGEST_REASON))
    if comparison.copies:
        print(f"left out as copies: {', '.join(relative(run.folder) for run in comparison.copies)}")
    if any(gap.bootstrap for gap in comparison.beside.values()):
        print(f"{ON_BOOTSTRAP} --out and --html have it.")
