"""Many ``result.json`` files in, tables and figures out: what the command ``sslbench-report`` does.

Pandas, matplotlib and rich are not imported here: `figure` and `cli` do so where they need them.
"""

from __future__ import annotations

from sslbench.report.markdown import render_markdown
from sslbench.report.results import RunResult, UnfinishedRun, find_runs, load_result
from sslbench.report.summary import (
    Difference,
    Group,
    Spread,
    commands,
    differences_to_supervised,
    group_runs,
    spread,
)

__all__ = [
    "Difference",
    "Group",
    "RunResult",
    "Spread",
    "UnfinishedRun",
    "commands",
    "differences_to_supervised",
    "find_runs",
    "group_runs",
    "load_result",
    "render_markdown",
    "spread",
]
