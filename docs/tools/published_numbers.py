"""Writes docs/results/seeds.md: a report of runs with a table of their numbers beside published ones.

python docs/tools/published_numbers.py outputs/seeds docs/results/notes/seeds.yaml \
        --note docs/results/notes/seeds.md --title 'The source systems' --out docs/results/seeds.md
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sslbench.report.compare.comparison import compare
from sslbench.report.compare.groups import Group, mean_std
from sslbench.report.read.find import find_runs
from sslbench.report.write.columns import format_mean_std
from sslbench.report.write.commands import commands
from sslbench.report.write.markdown import markdown_table, plain, render_markdown
from sslbench.rundir.records import RunResult
from sslbench.system.paths import relative, seen_from

# Titles, and whether a column holds numbers.
_COLUMNS = (
    ("system", False),
    ("data", False),
    ("number", False),
    ("published", False),
    ("here %", True),
    ("seeds (n)", True),
    ("row", True),
    ("what was wrong there, or differs", False),
    ("command", False),
)


@dataclass(frozen=True)
class Published:
    """One row of the yaml file.

    Attributes:
        system: what is compared.
        data: the data set and labels, as text.
        number: what the number is, as text.
        published: the number that was published, as text.
        remark: what was wrong there, or is different here.
        metric: a field of ``result.json``, or a key of its ``metrics_best`` or ``metrics_last`` after a colon
            (``metrics_last:labelled/model_b_acc``); a leading ``1 -`` turns an accuracy into an error.
        runs: fields of ``result.json``, and a word of the command under ``typed``, that only one group has.
    """

    system: str
    data: str
    number: str
    published: str
    remark: str
    metric: str
    runs: Mapping[str, Any]

    def matches(self, group: Group) -> bool:
        """Whether these are its runs."""
        fields = {name: value for name, value in self.runs.items() if name != "typed"}
        typed = self.runs.get("typed")
        return all(getattr(group.identity, name) == value for name, value in fields.items()) and all(
            typed is None or typed in run.overrides for run in group.runs
        )

    def value(self, run: RunResult) -> float:
        """The number of one run, a fraction."""
        place, _, key = self.metric.removeprefix("1 -").strip().partition(":")
        value = getattr(run, place)[key] if key else getattr(run, place)
        return float(1 - value if self.metric.startswith("1 -") else value)

    def cells(self, groups: Sequence[Group]) -> list[str]:
        """The row of the table."""
        found = [group for group in groups if group.runs and self.matches(group)]
        if len(found) != 1:
            sys.exit(f"{self.system}, {self.data}: {len(found)} groups of runs match {self.runs}, not one")
        (group,) = found
        number = mean_std([self.value(run) for run in group.runs])
        return [
            self.system,
            self.data,
            self.number,
            self.published,
            format_mean_std(number, single="n=1: no std"),
            str(number.n),
            str(group.number),
            " ".join(self.remark.splitlines()),
            "<br>".join(
                f"<code>{plain(line)}</code>" if "`" in line else f"`{line}`" for line in commands(group)
            ),
        ]


def main(argv: Sequence[str] | None = None) -> None:
    """Write the report; `argv` are the arguments, None for those of the process."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, help="the folder of the runs")
    parser.add_argument("rows", type=Path, help="the yaml file of the published numbers")
    parser.add_argument("--note", type=Path, required=True, help="prose for the top of the report")
    parser.add_argument("--title", required=True)
    parser.add_argument("--out", type=Path, required=True, help="the markdown file")
    args = parser.parse_args(argv)
    rows = [Published(**row) for row in yaml.safe_load(args.rows.read_text(encoding="utf-8"))]
    with seen_from(args.out.parent):
        comparison = compare(find_runs([args.runs]))
        note = [
            args.note.read_text(encoding="utf-8").rstrip("\n"),
            "## Beside published numbers",
            "In percent, mean ± sample standard deviation over n seeds; `row` is that of the summary below.",
            markdown_table(_COLUMNS, [row.cells(comparison.groups) for row in rows]),
        ]
        words = ["python", Path(__file__), args.runs, args.rows, "--note", args.note, "--out", args.out]
        command = shlex.join(relative(word) if isinstance(word, Path) else word for word in words)
        command += f" --title {shlex.quote(args.title)}"
        text = render_markdown(comparison, title=args.title, command=command, note="\n\n".join(note))
    args.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
