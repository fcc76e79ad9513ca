"""The tables as CSV."""

import csv
import io
import json
from dataclasses import asdict
from typing import Any

from sslbench.report.compare.comparison import Comparison
from sslbench.report.compare.groups import MEASURES, Group
from sslbench.rundir.records import RunResult
from sslbench.system.paths import relative

_SHARED = ("num_labels", "num_valid", "steps", "algorithm", "loss", "model")


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
    return _csv([_group_row(group, comparison) for group in comparison.groups])


def _group_row(group: Group, comparison: Comparison) -> dict[str, Any]:
    run, number = group.identity, group.number
    reasons = [f"seed {missing.run.seed} {missing.reason}" for missing in group.missing if missing.run]
    row = {
        "row": number,
        "rank": comparison.ranks.get(number),
        "group": run.group,
        "dataset": group.task.dataset,
        **{name: getattr(run, name) for name in _SHARED},
        "settings": group.settings,
        "selected_by_validation_of": comparison.selected.get(number),
        "seeds": len(group.runs),
        "seeds_missing": len(group.missing),
        "missing": "; ".join(reasons),
    }
    for measure in MEASURES:
        found = group.mean_std(measure)
        row |= {f"{measure}_mean": found and found.mean, f"{measure}_std": found and found.std}
    difference = comparison.row_differences.get(number)
    bootstrap = (difference and difference.bootstrap) or (None, None)
    t_interval = (difference and difference.t_interval) or (None, None)
    return row | {
        "baseline_row": difference and difference.baseline.number,
        "baseline_test_error_mean": difference and difference.baseline.test_error.mean,
        "difference": difference and difference.mean,
        "pairs": difference and difference.n,
        "standard_error": difference and difference.standard_error,
        "bootstrap_low": bootstrap[0],
        "bootstrap_high": bootstrap[1],
        "t_interval_low": t_interval[0],
        "t_interval_high": t_interval[1],
    }


def _csv(rows: list[dict[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list({name: None for row in rows for name in row}), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _inert(value) for name, value in row.items()} for row in rows)
    return out.getvalue()


def _inert(value: Any) -> Any:
    """A text that a spreadsheet does not take for a formula, which could start programs."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@")) else value
