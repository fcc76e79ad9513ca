"""The report as markdown."""

from collections.abc import Iterable, Sequence

from sslbench.report.compare.comparison import Comparison
from sslbench.report.compare.groups import Group
from sslbench.report.write.columns import Form, Table
from sslbench.report.write.commands import commands
from sslbench.report.write.notes import (
    ON_DIFFERENCES,
    ON_SELECTION,
    ONLY_BASELINES,
    WITHOUT_BASELINE,
    on_rows,
)
from sslbench.report.write.result_tables import difference_table, missing_table, run_table, summary_table
from sslbench.system.text import ellipsize

_LONGEST = 1000  # characters of a cell: an error is shown in full


def markdown_table(columns: Sequence[tuple[str, bool]], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells in markdown; `columns` are titles, and whether it holds numbers, set to the right."""

    def line(cells: Iterable[str]) -> str:
        escaped = (cell.replace("|", "\\|") for cell in cells)
        return f"| {' | '.join(escaped)} |"

    rule = line("---:" if number else "---" for _, number in columns)
    return "\n".join([line(title for title, _ in columns), rule, *map(line, rows)])


_ESCAPES = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", **{letter: f"\\{letter}" for letter in "\\[]*_$`~#"}}
)


def plain(text: str) -> str:
    """A name or a path, cut to a length that fits, in which no letter is markup."""
    return ellipsize(text, _LONGEST).translate(_ESCAPES)


def _code(text: str) -> str:
    """Likewise between backticks, where nothing but a backtick is markup."""
    return ellipsize(text, _LONGEST).replace("`", "'")


def _table(table: Table) -> str:
    # Columns of numbers are ours: the brackets of an interval are no link.
    columns = table.columns
    rows = [
        [cell.text if column.number else plain(cell.text) for cell, column in zip(row, columns, strict=True)]
        for row in table.rows
    ]
    return markdown_table([(column.title, column.number) for column in columns], rows)


def _command_section(group: Group) -> str:
    run, task = group.identity, group.task
    parts = [task.dataset, f"{task.num_labels} labels", run.algorithm, run.loss, run.model, group.settings]
    return (
        f"Row {group.number}: {plain(', '.join(filter(None, parts)))} (group `{_code(run.group)}`)\n\n```sh\n"
        + "\n".join(commands(group))
        + "\n```"
    )


def _difference_section(comparison: Comparison) -> list[str]:
    parts = ["## Difference to the baseline"]
    if comparison.differences:
        parts += [ON_DIFFERENCES, _table(difference_table(comparison, Form.MARKDOWN))]
    if comparison.unmatched:
        names = ", ".join(f"{plain(group.label)} (row {group.number})" for group in comparison.unmatched)
        parts.append(f"{WITHOUT_BASELINE}: {names}.")
    if len(parts) == 1:
        parts.append(ONLY_BASELINES)
    return parts


def _missing_section(comparison: Comparison) -> list[str]:
    parts = []
    if comparison.missing:
        parts += [
            "## Not finished",
            "Runs without a result that can be read. `running` may also be a run that was killed without "
            "warning.",
            _table(missing_table(comparison, Form.MARKDOWN)),
        ]
    if comparison.warnings:
        lines = "\n".join(f"- {plain(line)}" for line in comparison.warnings)
        parts += ["## Files that could not be used", lines]
    return parts


def render_markdown(comparison: Comparison, *, title: str, command: str, note: str = "") -> str:
    """The whole report; `command`, typed in its folder, writes it, and `note` goes in unchanged."""
    parts = [
        f"# {title}",
        "Generated from the `result.json` of each run by sslbench-report; no number was typed. The command, "
        f"and all paths, are as seen from the folder of this file:\n\n```sh\n{command}\n```",
        *([note] if note else []),
        "## Summary",
        f"Mean ± sample standard deviation (n - 1) over n runs with different seeds. {ON_SELECTION} "
        "`test error` is at that step, `at last step` after the whole run, and `median of 20` over the last "
        "20 evaluations (`-` where there were fewer); ECE, the expected calibration error on the test "
        "images, is at the best step. `rank` is by mean test error among the rows with the same data set, "
        "labels, validation images and steps; ties share it. `difference` is that to the "
        "baseline, in percentage points, with its bootstrap interval over n pairs (see below).",
        _table(summary_table(comparison, Form.MARKDOWN)),
        *on_rows(comparison),
        *_missing_section(comparison),
        "## Every run",
        "`#` is the row in the summary; `split` begins the hash of the split's indices.",
        _table(run_table(comparison, Form.MARKDOWN)),
        "## Commands",
        "As typed, but for the folders `run_dir`, `output_root` and `data_root`.",
        *(_command_section(group) for group in comparison.groups if group.runs),
        *_difference_section(comparison),
    ]
    return "\n\n".join(parts) + "\n"
