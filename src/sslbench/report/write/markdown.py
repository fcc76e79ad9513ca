"""The report as markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sslbench.report.compare.comparison import Comparison
from sslbench.report.compare.groups import Group
from sslbench.report.write.columns import (
    MISSING_COLUMNS,
    RUN_COLUMNS,
    Cell,
    Column,
    difference_table,
    missing_rows,
    run_cells,
    summary_table,
)
from sslbench.report.write.commands import commands
from sslbench.report.write.notes import ON_CHOICE, ON_DIFFERENCES, on_rows
from sslbench.system.text import ellipsize

_LONGEST = 1000  # characters of a cell: what went wrong is told in full


def table(columns: Sequence[tuple[str, bool]], rows: Iterable[Sequence[str]]) -> str:
    """A markdown table; the columns that hold numbers are set to the right."""

    def line(cells: Iterable[str]) -> str:
        escaped = (cell.replace("|", "\\|") for cell in cells)
        return f"| {' | '.join(escaped)} |"

    rule = line("---:" if right else "---" for _, right in columns)
    return "\n".join([line(name for name, _ in columns), rule, *map(line, rows)])


_ESCAPES = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", **{letter: f"\\{letter}" for letter in "\\[]*_$`~#"}}
)


def plain(text: str) -> str:
    """A name or a path of any kind, of a length that fits, which stays text to whoever renders the page."""
    return ellipsize(text, _LONGEST).translate(_ESCAPES)


def _code(text: str) -> str:
    """Likewise between backticks, where nothing but a backtick is markup."""
    return ellipsize(text, _LONGEST).replace("`", "'")


def _table(columns: Sequence[Column], rows: Iterable[Sequence[Cell]]) -> str:
    # Columns of numbers are ours: the brackets of an interval are no link.
    return table(
        columns,
        [
            [
                cell.text if column.right else plain(cell.text)
                for cell, column in zip(row, columns, strict=True)
            ]
            for row in rows
        ],
    )


def _command_section(group: Group) -> str:
    head = group.head
    loss = f", {head.loss}" if head.loss else ""
    settings = f", {group.settings}" if group.settings else ""
    title = f"{head.dataset}, {head.num_labels} labels, {head.algorithm}{loss}, {head.model}{settings}"
    return (
        f"Row {group.number}: {plain(title)} (group `{_code(head.group)}`)\n\n```sh\n"
        + "\n".join(commands(group))
        + "\n```"
    )


def _difference_section(comparison: Comparison) -> list[str]:
    parts = ["## Difference to supervised"]
    if comparison.differences:
        parts += [ON_DIFFERENCES, _table(*difference_table(comparison))]
    if comparison.alone:
        names = ", ".join(f"{plain(group.label)} (row {group.number})" for group in comparison.alone)
        parts.append(f"No supervised group with the same data set, labels, steps and splits: {names}.")
    if not comparison.differences and not comparison.alone:
        parts.append("There is no other method than supervised training.")
    return parts


def _missing_section(comparison: Comparison) -> list[str]:
    parts = []
    if comparison.missing:
        parts += [
            "## Not finished",
            "Runs without a result that can be read. `running` may also be a run that was killed without "
            "warning.",
            _table(MISSING_COLUMNS, missing_rows(comparison)),
        ]
    if comparison.warnings:
        lines = "\n".join(f"- {plain(line)}" for line in comparison.warnings)
        parts += ["## Files that could not be used", lines]
    return parts


def render_markdown(comparison: Comparison, *, title: str, command: str, note: str = "") -> str:
    """The whole report.

    Args:
        comparison: what to show.
        title: of the page.
        command: the shell line that wrote the report.
        note: prose in markdown that goes in unchanged after the title.
    """
    groups = comparison.groups
    parts = [
        f"# {title}",
        "Generated from the `result.json` of each run by sslbench-report; no number was typed:\n\n"
        f"```sh\n{command}\n```",
        *([note] if note else []),
        "## Summary",
        f"Mean ± sample standard deviation (n - 1) over n runs with different seeds. {ON_CHOICE} "
        "`test error` is at that step, `at last step` after the whole run, and `median of 20` over the last "
        "20 evaluations, or all where there were fewer; ECE, the expected calibration error on the test "
        "images, is at the best step. `rank` is by mean test error among the rows with the same data set, "
        "labels, validation images and steps; ties share it. `difference` is that to `supervised`, in "
        "percentage points, with its bootstrap interval over n pairs (see below).",
        _table(*summary_table(comparison)),
        *on_rows(comparison),
        *_missing_section(comparison),
        "## Every run",
        "`#` is the row in the summary; `split` begins the hash of the split's indices.",
        _table(RUN_COLUMNS, [run_cells(group, run) for group in groups for run in group.runs]),
        "## Commands",
        "As typed, but for the folders `run_dir`, `output_root` and `data_root`.",
        *(_command_section(group) for group in groups if group.runs),
        *_difference_section(comparison),
    ]
    return "\n\n".join(parts) + "\n"
