"""The summary as a LaTeX table."""

import re

from sslbench.report.compare.comparison import Comparison
from sslbench.report.write.columns import Form
from sslbench.report.write.notes import ON_BOOTSTRAP, on_rows
from sslbench.report.write.result_tables import DIFFERENCE, summary_table
from sslbench.system.text import ellipsize

_LONGEST = 60  # characters of a cell
_ROWS_OF_A_PAGE = 40
_ESCAPES = str.maketrans(
    {
        **{letter: f"\\{letter}" for letter in "&%$#_{}"},
        "~": "\\textasciitilde{}",
        "^": "\\textasciicircum{}",
        "\\": "\\textbackslash{}",
    }
)


def latex(comparison: Comparison) -> str:
    """The summary as a table for the package booktabs, and longtable where it fills more than a page.

    A rule separates tasks. What all rows share stands in a comment above the table.
    """
    table = summary_table(comparison, Form.LATEX)
    long = len(table.rows) > _ROWS_OF_A_PAGE
    alignment = "".join("r" if column.number else "l" for column in table.columns)
    title = _line([_escaped(column.title) for column in table.columns])
    lines = ["\\toprule", title, "\\midrule", *(["\\endhead"] if long else [])]
    task = None
    for group, row in zip(comparison.groups, table.rows, strict=True):
        if task not in (None, group.task):
            lines.append("\\midrule")
        task = group.task
        # A minus sign is no hyphen.
        lines.append(re.sub(r"(?<=[ \[])-(?=\d)", "$-$", _line([_escaped(cell.text) for cell in row])))
    environment = "longtable" if long else "tabular"
    lines = [f"\\begin{{{environment}}}{{{alignment}}}", *lines, "\\bottomrule", f"\\end{{{environment}}}"]
    packages = "booktabs, longtable" if long else "booktabs"
    comments = [
        f"packages: {packages}; by sslbench-report, in percent, mean ± sample standard deviation",
        f"{DIFFERENCE.title}: bootstrap over n pairs. {ON_BOOTSTRAP}",
        *([f"all rows: {table.shared}"] if table.shared else []),
        *on_rows(comparison),
    ]
    return "".join(f"{line}\n" for line in [*(f"% {comment}" for comment in comments), *lines])


def _escaped(text: str) -> str:
    return ellipsize(text, _LONGEST).translate(_ESCAPES)


def _line(cells: list[str]) -> str:
    return " & ".join(cells) + " \\\\"
