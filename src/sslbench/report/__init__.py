"""From many ``result.json`` files to tables, figures and a page: what the command ``sslbench-report`` does.

Matplotlib, scipy, jinja2 and rich are not imported here: the modules that use them are.
"""

from __future__ import annotations

from sslbench.report.compare.comparison import Comparison, compare
from sslbench.report.compare.differences import Difference, differences_to_supervised
from sslbench.report.compare.groups import Group, MeanStd, group_runs, mean_std, ranks
from sslbench.report.read.find import Found, find_runs
from sslbench.report.read.missing import MissingRun
from sslbench.report.write.columns import format_mean_std
from sslbench.report.write.commands import commands
from sslbench.report.write.markdown import markdown_table, plain, render_markdown
from sslbench.rundir.parsing import load_result
from sslbench.rundir.records import RunResult

__all__ = [
    "Comparison",
    "Difference",
    "Found",
    "Group",
    "MeanStd",
    "MissingRun",
    "RunResult",
    "commands",
    "compare",
    "differences_to_supervised",
    "find_runs",
    "format_mean_std",
    "group_runs",
    "load_result",
    "markdown_table",
    "mean_std",
    "plain",
    "ranks",
    "render_markdown",
]
