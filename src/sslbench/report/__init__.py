"""Many ``result.json`` files in; tables, figures and a page out: what the command ``sslbench-report`` does.

Pandas, matplotlib, scipy, jinja2 and rich are not imported here: the modules that use them are.
"""

from __future__ import annotations

from sslbench.report.compare.comparison import Comparison, compare
from sslbench.report.compare.differences import Difference, differences_to_supervised
from sslbench.report.compare.groups import Group, Spread, group_runs, ranks, spread
from sslbench.report.read.find import Found, find_runs
from sslbench.report.read.missing import MissingRun
from sslbench.report.write.commands import commands
from sslbench.report.write.markdown import render_markdown
from sslbench.rundir.parsing import load_result
from sslbench.rundir.records import RunResult

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
