"""The tables as the terminal shows them."""

import os
import textwrap
from collections.abc import Callable
from functools import partial

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from sslbench.report.compare.comparison import Comparison
from sslbench.report.compare.groups import by_task
from sslbench.report.write.columns import Form, Table
from sslbench.report.write.notes import ON_BOOTSTRAP, ON_RANKS, ON_SELECTION, on_rows
from sslbench.report.write.result_tables import missing_table, run_table, summary_table
from sslbench.system.paths import relative
from sslbench.system.text import ellipsize

_WIDTH_WITHOUT_TERMINAL = 220  # characters: a pipe has no width, and 80 would break the table's cells
_WIDEST_NOTE = 110  # characters of a line of text
_LONGEST = 1000  # characters of a cell; a name may have more
_NARROW = 10  # characters to which a column of names may shrink


def _console() -> Console:
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _WIDTH_WITHOUT_TERMINAL
    return console


def _total(widths: list[int]) -> int:
    """The characters of a line, with the borders and the spaces beside them."""
    return sum(widths) + 3 * len(widths) + 1


def _drawn(table: Table, available: int) -> tuple[RichTable, int]:
    """The table with its width, which is more than `available` where a number would be cut.

    The widest columns break into lines first: names anywhere, numbers at their spaces.
    """
    rows = [[ellipsize(cell.text, _LONGEST) for cell in row] for row in table.rows]
    whole, least = [], []
    for column, *cells in zip(table.columns, *rows, strict=True):
        texts = [column.title, *cells]
        word = max(cell_len(word) for text in texts for word in text.split())
        whole.append(max(map(cell_len, texts)))
        least.append(word if column.number else min(word, _NARROW))
    widths = whole
    for level in range(max(whole), 0, -1):
        if _total(widths) <= available:
            break
        widths = [min(most, max(level, few)) for most, few in zip(whole, least, strict=True)]
    drawn = RichTable()
    for column, width in zip(table.columns, widths, strict=True):
        drawn.add_column(column.title, width=width, overflow="fold")
        drawn.columns[-1].justify = "right" if column.number else "left"
    for row in rows:
        # Text, so that a bracket in a name is not taken for markup.
        drawn.add_row(*map(Text, row))
    return drawn, _total(widths)


def _print(console: Console, make: Callable[[Form], Table]) -> list[str]:
    """Print a table, in its narrow form if need be; returns the titles of what that form leaves out."""
    wide = table = make(Form.WIDE)
    drawn, width = _drawn(wide, console.width)
    if width > console.width:
        table = make(Form.NARROW)
        drawn, width = _drawn(table, console.width)
    if table.shared:
        print(f"{table.shared}:")
    Console(width=max(width, console.width)).print(drawn)
    return [column.title for column in wide.columns if column not in table.columns]


def show(comparison: Comparison, *, seeds: bool) -> None:
    """Print the summary, each run if `seeds`, and what is missing or left out."""
    console = _console()

    def note(text: str) -> None:
        print(textwrap.fill(text, min(console.width, _WIDEST_NOTE), break_on_hyphens=False))

    dropped: list[str] = []
    # A table for each task, as ranks and differences are within one.
    for groups in by_task(comparison.groups).values():
        dropped += _print(console, partial(summary_table, comparison, groups=groups))
    note("mean ± sample standard deviation over n seeds")
    note("difference: to the baseline, in points, with a bootstrap interval over n pairs")
    note("baseline: supervised training with the same views, unless --baseline names another")
    for sentence in (ON_RANKS, ON_SELECTION, *on_rows(comparison)):
        note(sentence)
    if seeds:
        dropped += _print(console, partial(run_table, comparison))
    if comparison.missing:
        print("not finished:")
        _print(console, partial(missing_table, comparison))
    if comparison.copies:
        print(f"left out as copies: {', '.join(relative(run.folder) for run in comparison.copies)}")
    if dropped:
        names = ", ".join(dict.fromkeys(dropped))
        note(f"left out, as the terminal is narrow: {names}; --html, --out and --csv have them")
    if any(difference.bootstrap for difference in comparison.row_differences.values()):
        note(f"{ON_BOOTSTRAP} --out and --html have it.")
