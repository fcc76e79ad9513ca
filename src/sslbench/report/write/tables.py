"""The tables as CSV and LaTeX, which pandas writes."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

import pandas as pd

from sslbench.report.compare.comparison import Comparison
from sslbench.report.compare.groups import Group, spread
from sslbench.report.write.columns import format_interval, summary_table, texts, without_shared
from sslbench.report.write.notes import ON_BOOTSTRAP, on_rows
from sslbench.rundir.records import RunSummary
from sslbench.system.paths import relative
from sslbench.system.text import ellipsize

_AS_JSON = ("overrides", "metrics_best", "metrics_last", "test_calibration")
_T = "Student's t 95 %"
_LATEX_COLUMNS = (
    *(
        "#",
        "rank",
        "dataset",
        "labels",
        "validation images",
        "steps",
        "algorithm",
        "loss",
        "model",
        "settings",
    ),
    *("by val.", "seeds (n)", "test error %", "supervised %", "difference [95 %]", _T, "ECE %"),
)
_LONGEST = 60  # characters of a cell in LaTeX
_ROWS_OF_A_PAGE = 40


def runs_csv(comparison: Comparison) -> str:
    """One row a run: the fields of ``result.json``, ``settings``, ``status``, ``error`` and ``counted``.

    A run without a result has its identity and its status; the other cells are empty. It is not counted if
    another folder has the same run.
    """
    rows: list[dict[str, Any]] = []
    finished = {"status": "finished", "error": None, "counted": True}
    settings = {group.head.group: group.settings or None for group in comparison.groups}
    for run in comparison.runs:
        row = {**asdict(run), "folder": relative(run.folder), "settings": settings[run.group], **finished}
        for name in _AS_JSON:
            row[name] = None if row[name] is None else json.dumps(row[name])
        rows.append(row)
    for cell in comparison.missing:
        known = {**asdict(cell.run), "settings": settings.get(cell.run.group)} if cell.run else {}
        told = {"status": cell.status, "error": cell.error, "counted": comparison.counts(cell)}
        rows.append({"folder": cell.place, **known, **told})
    return _csv(rows)


def _group_row(group: Group, comparison: Comparison) -> dict[str, Any]:
    head = group.head
    row: dict[str, Any] = {"row": group.number, "rank": comparison.ranks.get(group.number)}
    row |= {
        entry.name: getattr(head, entry.name)
        for entry in fields(RunSummary)
        if entry.name not in ("run_id", "name", "seed", "split_seed")
    }
    row |= {
        "settings": group.settings or None,
        "chosen_by_validation_of": comparison.chosen.get(group.number),
        "seeds": len(group.runs),
        "seeds_missing": len(group.missing),
        "missing": "; ".join(f"seed {cell.run.seed} {cell.reason}" for cell in group.missing if cell.run),
    }
    numbers = {
        "test_error": [1 - run.test_acc for run in group.runs],
        "test_error_last": [1 - run.test_acc_last for run in group.runs],
        "test_error_median20": [1 - run.test_acc_median20 for run in group.runs],
        "test_ece": [run.test_ece for run in group.runs],
        "val_acc_best": [run.val_acc_best for run in group.runs],
        "train_seconds": [run.train_seconds for run in group.runs],
    }
    for name, values in numbers.items():
        number = spread(values) if values else None
        row[f"{name}_mean"] = number and number.mean
        row[f"{name}_std"] = number and number.std
    gap = comparison.beside.get(group.number)
    row |= {
        "supervised_row": gap and gap.baseline.number,
        "supervised_test_error_mean": gap and gap.baseline.test_error.mean,
        "difference": gap and gap.mean,
        "pairs": gap and gap.n,
        "standard_error": gap and gap.standard_error,
    }
    for name in ("bootstrap", "t_interval"):
        interval = getattr(gap, name, None)
        row[f"{name}_low"], row[f"{name}_high"] = interval or (None, None)
    return row


def groups_csv(comparison: Comparison) -> str:
    """One row a group, every number a fraction or in seconds; empty where there is none."""
    return _csv([_group_row(group, comparison) for group in comparison.groups])


def _csv(rows: list[dict[str, Any]]) -> str:
    inert = [{name: _inert(value) for name, value in row.items()} for row in rows]
    # As objects: beside an empty cell pandas would make floats of whole numbers.
    return pd.DataFrame(inert, dtype=object).to_csv(index=False)


def _inert(value: Any) -> Any:
    """A text that a spreadsheet does not take for a formula, which could start programs."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@")) else value


def latex(comparison: Comparison) -> str:
    """The summary as a table for the package booktabs, and longtable where it fills more than a page.

    What all rows share stands in a comment above it.
    """
    columns, rows, shared = without_shared(*summary_table(comparison))
    cells = []
    for group, row in zip(comparison.groups, rows, strict=True):
        gap = comparison.beside.get(group.number)
        in_words = [*texts(row), format_interval(gap.t_interval if gap else None)]
        cells.append([ellipsize(text, _LONGEST) for text in in_words])
    whole = pd.DataFrame(cells, columns=[*[column.name for column in columns], _T])
    table = whole[[name for name in _LATEX_COLUMNS if name in whole]]
    right = {_T, *(column.name for column in columns if column.right)}
    long = len(table) > _ROWS_OF_A_PAGE
    written = table.to_latex(
        index=False,
        escape=True,
        longtable=long,
        column_format="".join("r" if name in right else "l" for name in table),
    )
    packages = "booktabs, longtable" if long else "booktabs"
    same = ", ".join(f"{name} {ellipsize(text, _LONGEST)}" for name, text in shared.items())
    comments = [
        f"packages: {packages}; by sslbench-report, in percent, mean ± sample standard deviation",
        f"difference [95 %]: bootstrap over n pairs. {ON_BOOTSTRAP}",
        *([f"all rows: {same}"] if same else []),
        *on_rows(comparison),
    ]
    return "".join(f"% {line}\n" for line in comments) + _ruled(written, comparison.groups)


def _ruled(written: str, groups: Sequence[Group]) -> str:
    """The table with a rule between tasks, and with minus signs that are no hyphens."""
    lines = written.splitlines()
    places = [place for place, line in enumerate(lines) if line.endswith(r"\\")][-len(groups) :]
    for place, group, above in zip(places, groups, [None, *groups], strict=False):
        lines[place] = re.sub(r"(?<=[ \[])-(?=\d)", "$-$", lines[place])
        if above is not None and above.task != group.task:
            lines[place] = f"\\midrule\n{lines[place]}"
    return "\n".join(lines) + "\n"
