"""Numbers of runs beside published ones: the rows that a yaml file names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from sslbench.errors import UserError
from sslbench.report.compare.groups import Group, spread
from sslbench.report.write.columns import Column, format_spread
from sslbench.report.write.commands import commands
from sslbench.report.write.markdown import plain, table
from sslbench.rundir.records import RunResult
from sslbench.system.paths import relative
from sslbench.system.safe_files import parse_yaml, read_text

_COLUMNS = (
    Column("system", False),
    Column("data", False),
    Column("number", False),
    Column("published", False),
    Column("here %", True),
    Column("seeds (n)", True),
    Column("row", True),
    Column("what was wrong there, or differs", False),
    Column("command", False),
)
_TEXTS = ("system", "data", "number", "published", "remark", "metric")


@dataclass(frozen=True)
class Published:
    """One row.

    Attributes:
        system: what is compared.
        data: the data set and labels, in words.
        number: what the number is, in words.
        published: the number that stands elsewhere, in words.
        remark: what was wrong there, or is different here.
        metric: a field of ``result.json``, or a key of its ``metrics_best`` or ``metrics_last`` after a colon
            (``metrics_last:labelled/model_b_acc``); a leading ``1 -`` turns an accuracy into an error.
        runs: fields of ``result.json``, and words of the command under ``typed``, that tell the group.
    """

    system: str
    data: str
    number: str
    published: str
    remark: str
    metric: str
    runs: dict[str, Any]


def read_published(path: Path) -> list[Published]:
    """Read the rows.

    Raises:
        UserError: the file cannot be read, or is not a list of such rows.
    """
    found = parse_yaml(read_text(path), str(path))
    if not isinstance(found, list) or not found:
        raise UserError(f"{path} must be a list of rows")
    return [_row(path, number, row) for number, row in enumerate(found, start=1)]


def _row(path: Path, number: int, row: Any) -> Published:
    names = [entry.name for entry in fields(Published)]
    if not isinstance(row, dict) or set(row) != set(names):
        raise UserError(f"{path}, row {number}: it must have exactly the keys {', '.join(names)}")
    for name in _TEXTS:
        if not isinstance(row[name], str):
            raise UserError(f"{path}, row {number}: '{name}' must be text")
        row[name] = " ".join(row[name].splitlines())  # a cell of a table is one line
    known = {entry.name for entry in fields(RunResult)} | {"typed"}
    if not isinstance(row["runs"], dict) or not set(row["runs"]) <= known:
        raise UserError(f"{path}, row {number}: 'runs' must name fields of result.json, or typed")
    typed = row["runs"].get("typed", [])
    if not isinstance(typed, str) and not (
        isinstance(typed, list) and all(isinstance(word, str) for word in typed)
    ):
        raise UserError(f"{path}, row {number}: 'typed' must be a word of the command, or a list of words")
    return Published(**row)


def _matches(group: Group, wanted: dict[str, Any]) -> bool:
    head = group.head
    typed = wanted.get("typed", [])
    words = [typed] if isinstance(typed, str) else typed
    return all(getattr(head, key) == value for key, value in wanted.items() if key != "typed") and all(
        word in run.overrides for word in words for run in group.runs
    )


def _value(run: RunResult, metric: str) -> float:
    inverted = metric.startswith("1 -")
    place, _, key = metric.removeprefix("1 -").strip().partition(":")
    value = getattr(run, place, None)
    if key:
        value = value.get(key) if isinstance(value, dict) else None
    if not isinstance(value, int | float):
        raise UserError(f"{relative(run.folder)}/result.json has no number '{metric}'")
    if not 0 <= value <= 1:
        raise UserError(f"{relative(run.folder)}/result.json: '{metric}' is {value}, which is no share")
    return 1 - value if inverted else value


def _code(line: str) -> str:
    return f"<code>{plain(line)}</code>" if "`" in line else f"`{line}`"


def _cells(row: Published, groups: Sequence[Group]) -> list[str]:
    found = [group for group in groups if group.runs and _matches(group, row.runs)]
    if len(found) != 1:
        raise UserError(f"{row.system}, {row.data}: {len(found)} groups of runs match {row.runs}, not one")
    group = found[0]
    number = spread([_value(run, row.metric) for run in group.runs])
    return [
        row.system,
        row.data,
        row.number,
        row.published,
        format_spread(number, single="n=1: no spread"),
        str(number.n),
        str(group.number),
        row.remark,
        "<br>".join(map(_code, commands(group))),
    ]


def render_beside(rows: Sequence[Published], groups: Sequence[Group]) -> str:
    """The section of the report.

    Args:
        rows: from `read_published`.
        groups: from `group_runs`.

    Raises:
        UserError: no group, or more than one, fits a row, or its runs lack the number.
    """
    return (
        "## Beside published numbers\n\n"
        "In percent, mean ± sample standard deviation over n seeds; `row` is that of the summary below.\n\n"
        + table(_COLUMNS, [_cells(row, groups) for row in rows])
    )
