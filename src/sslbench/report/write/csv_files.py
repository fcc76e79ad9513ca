"""The tables as CSV."""

import csv
import io
import json
from dataclasses import asdict
from typing import Any

from sslbench.report.compare.comparison import Comparison
from sslbench.report.compare.groups import Group
from sslbench.report.write.result_tables import SUMMARY_COLUMNS, GroupRow
from sslbench.rundir.records import RunResult
from sslbench.system.paths import relative


def runs_csv(comparison: Comparison) -> str:
    """One row a run: the fields of ``result.json``, ``settings``, ``status``, ``error`` and ``counted``.

    ``dataset`` is the name that no other data of the report has. A run without a result has its identity and
    its status; the other cells are empty. It is not counted if another folder has the same run.
    """
    rows = [_run_row(group, run) for group in comparison.groups for run in group.runs]
    for missing in comparison.missing:
        row: dict[str, Any] = {"folder": relative(missing.folder)}
        if missing.run:
            row |= asdict(missing.run)
            if group := comparison.group_of(missing):
                row |= {"dataset": group.task.dataset, "settings": group.settings}
        counted = comparison.counts(missing)
        rows.append(row | {"status": missing.status, "error": missing.error, "counted": counted})
    return _csv(rows)


def _run_row(group: Group, run: RunResult) -> dict[str, Any]:
    row = asdict(run) | {"folder": relative(run.folder), "dataset": group.task.dataset}
    if group.value("test_error_median20", run) is None:
        row["test_acc_median20"] = None
    for name, value in row.items():
        if isinstance(value, dict | list | tuple):
            row[name] = json.dumps(value)
    return row | {"settings": group.settings, "status": "finished", "error": None, "counted": True}


def groups_csv(comparison: Comparison) -> str:
    """One row a group, every number a fraction or in seconds; empty where there is none."""
    rows: list[dict[str, Any]] = [{} for _ in comparison.groups]
    for group, fields in zip(comparison.groups, rows, strict=True):
        for column in SUMMARY_COLUMNS:
            fields |= column.csv(GroupRow(group, comparison))
    return _csv(rows)


def _csv(rows: list[dict[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list({name: None for row in rows for name in row}), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _inert(value) for name, value in row.items()} for row in rows)
    return out.getvalue()


def _inert(value: Any) -> Any:
    """A text that a spreadsheet does not take for a formula, which could start programs."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@")) else value
