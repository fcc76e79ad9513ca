"""Many ``result.json`` files in; tables, figures and a page out: what the command ``sslbench-report`` does.

Pandas, matplotlib, scipy, jinja2 and rich are not imported here: the modules that use them are.
"""

from __future__ import annotations

from sslbench.report.cells import MissingRun
from sslbench.report.commands import commands
from sslbench.report.comparison import Comparison, compare
from sslbench.report.differences import Difference, differences_to_supervised
from sslbench.report.finding import Found, find_runs
from sslbench.report.groups import Group, Spread, group_runs, ranks, spread
from sslbench.report.markdown import render_markdown
from sslbench.report.results import RunResult, load_result

__all__ = [
    "Comparison",
    "Difference",
    "Found",
    "Group",
    "MissingRun",
    "RunResult",
    "Spread",
    "commands",
    "compare",
    "differences_to_supervised",
    "find_runs",
    "group_runs",
    "load_result",
    "ranks",
    "render_markdown",
    "spread",
]
