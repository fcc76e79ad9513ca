"""Fills the page's template. Nothing in the page is fetched: styles, script and figures are inside."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from sslbench.report.compare.comparison import Comparison
from sslbench.report.compare.curves import Curves
from sslbench.report.compare.differences import Difference
from sslbench.report.compare.groups import Group
from sslbench.report.figures.sections import figure_sections
from sslbench.report.write.columns import (
    MISSING_COLUMNS,
    RUN_COLUMNS,
    Cell,
    Column,
    difference_table,
    missing_rows,
    run_cells,
    summary_table,
    without_shared,
)
from sslbench.report.write.commands import commands
from sslbench.report.write.notes import ON_CHOICE, ON_DIFFERENCES, on_rows
from sslbench.system.paths import relative
from sslbench.system.text import ellipsize

# What is looked for first, so that it is seen without scrolling.
_FIRST = (
    *("#", "rank", "algorithm", "loss", "settings", "by val.", "dataset", "labels"),
    *(
        "validation images",
        "steps",
        "seeds (n)",
        "test error %",
        "supervised %",
        "difference [95 %]",
        "ECE %",
        "seconds",
    ),
)
_LONGEST = 80  # characters of a cell; the whole text shows on hovering
_LONGEST_HINT = 1000
_IN_FULL = ("error",)  # columns that are there to be read


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        cells: in the order of the columns.
        kind: a class for the style sheet, or empty.
        link: address of the run's configuration, relative to the page; empty where there is none.
        sign: what the colour of its difference says, in a word; empty where it has none.
    """

    cells: Sequence[Cell]
    kind: str = ""
    link: str = ""
    sign: str = ""


@dataclass(frozen=True)
class Table:
    """A table of the page.

    Attributes:
        key: its id.
        label: what a screen reader says.
        columns: their names.
        rows: may be empty.
        shared: what all rows agree in, and has no column.
        links: whether rows have links.
    """

    key: str
    label: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    shared: str = ""
    links: bool = False


def _address(folder: Path, page: Path) -> str:
    """Of the run's ``config.yaml`` as seen from the page, quoted; empty if there is none."""
    target = folder / "config.yaml"
    if not os.path.isfile(target):  # noqa: PTH113 - Path.is_file raises in closed folders and for long names
        return ""
    try:
        path = os.path.relpath(target, page.parent)
    except ValueError:  # on another drive
        return ""
    return quote(os.fsencode(path.replace(os.sep, "/")))


def _sureness(gap: Difference | None) -> str:
    """Better or worse than the baseline where Student's t interval excludes zero and no run is missing."""
    if gap is None or gap.t_interval is None or gap.method.missing or gap.baseline.missing:
        return ""
    low, high = gap.t_interval
    return "better" if high < 0 else "worse" if low > 0 else ""


def _group_kind(group: Group, comparison: Comparison) -> str:
    if not group.runs:
        return "absent"
    kinds = [
        "first" if group.number in comparison.firsts else "",
        "incomplete" if group.missing else "",
        _sureness(comparison.beside.get(group.number)),
    ]
    return " ".join(kind for kind in kinds if kind)


def _summary(comparison: Comparison) -> Table:
    all_columns, all_rows = summary_table(comparison)
    names = [column.name for column in all_columns]
    order = sorted(
        range(len(names)), key=lambda i: _FIRST.index(names[i]) if names[i] in _FIRST else len(names)
    )
    columns, kept, shared = without_shared(
        [all_columns[i] for i in order], [[row[i] for i in order] for row in all_rows]
    )
    kinds = [_group_kind(group, comparison) for group in comparison.groups]
    signs = [_sureness(comparison.beside.get(group.number)) for group in comparison.groups]
    rows = [Row(row, kind, sign=sign) for row, kind, sign in zip(kept, kinds, signs, strict=True)]
    text = ", ".join(f"{name} {ellipsize(value, _LONGEST)}" for name, value in shared.items())
    return Table("summary-table", "Summary, one row a configuration", columns, rows, text)


def _tables(comparison: Comparison, page: Path) -> dict[str, Table]:
    runs = [
        Row(run_cells(group, run), link=_address(run.folder, page))
        for group in comparison.groups
        for run in group.runs
    ]
    columns, cells = difference_table(comparison)
    signs = map(_sureness, comparison.differences)
    gaps = [Row(row, sign, sign=sign) for row, sign in zip(cells, signs, strict=True)]
    missing = [
        Row(cells, link=_address(cell.folder, page))
        for cell, cells in zip(comparison.missing, missing_rows(comparison), strict=True)
    ]
    return {
        "summary": _summary(comparison),
        "differences": Table("difference-table", "Differences to supervised", columns, gaps),
        "runs": Table("run-table", "Every run", RUN_COLUMNS, runs, links=True),
        "missing": Table("missing-table", "Runs without a result", MISSING_COLUMNS, missing, links=True),
    }


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("sslbench.report.page", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["in_full"] = _IN_FULL
    environment.filters["short"] = lambda text: ellipsize(text, _LONGEST)
    environment.filters["hint"] = lambda text: ellipsize(text, _LONGEST_HINT) if len(text) > _LONGEST else ""
    return environment


def render_page(comparison: Comparison, curves: Curves, *, title: str, command: str, page: Path) -> str:
    """The whole page.

    Args:
        comparison: what to show.
        curves: from `gather_curves`; its warnings are among those of `comparison`.
        title: of the page.
        command: the shell line that wrote the page.
        page: where it will lie; links to run folders are relative to it.
    """
    templates = files("sslbench.report.page").joinpath("templates")
    script = templates.joinpath("sort.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    sections = [
        {
            "key": section.key,
            "name": section.name,
            "title": section.title,
            "text": section.text,
            "panels": [
                {"title": panel.title, "caption": panel.caption, "svg": Markup(panel.svg)}
                for panel in section.panels
            ],
        }
        for section in figure_sections(comparison, curves.of)
    ]
    return (
        _environment()
        .get_template("page.html")
        .render(
            title=title,
            command=command,
            counts={
                "runs": len(comparison.runs),
                "groups": len(comparison.groups),
                "datasets": len({group.head.dataset for group in comparison.groups}),
                "missing": sum(map(comparison.counts, comparison.missing)),
            },
            on_choice=ON_CHOICE,
            on_differences=ON_DIFFERENCES,
            on_rows=on_rows(comparison),
            tables=_tables(comparison, page),
            sections=sections,
            groups=[
                {
                    "number": group.number,
                    "label": group.label,
                    "name": group.head.group,
                    "task": ", ".join(filter(None, (group.settings, str(group.task)))),
                    "commands": commands(group),
                }
                for group in comparison.groups
                if group.runs
            ],
            alone=[f"{group.label} (row {group.number})" for group in comparison.alone],
            copies=[relative(run.folder) for run in comparison.copies],
            warnings=comparison.warnings,
            style=Markup(templates.joinpath("page.css").read_text(encoding="utf-8")),
            script=Markup(script),
            script_hash=digest,
        )
    )
