"""Fills the page's template. Nothing in the page is fetched: styles, script and figures are inside."""

import base64
import hashlib
import os
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from sslbench.report.compare.comparison import Comparison
from sslbench.report.compare.curves import Curve
from sslbench.report.compare.differences import Difference
from sslbench.report.compare.groups import Group, with_results
from sslbench.report.figures.sections import figure_sections
from sslbench.report.read.find import MissingRun
from sslbench.report.write.columns import Form
from sslbench.report.write.commands import commands
from sslbench.report.write.notes import (
    ON_DIFFERENCES,
    ON_SELECTION,
    ONLY_BASELINES,
    WITHOUT_BASELINE,
    on_rows,
)
from sslbench.report.write.result_tables import (
    DIFFERENCE,
    difference_table,
    missing_table,
    run_table,
    summary_table,
)
from sslbench.rundir.records import RunResult
from sslbench.system.paths import relative
from sslbench.system.text import ellipsize

_LONGEST = 80  # characters of a cell; the whole text shows on hovering
_LONGEST_HINT = 1000


def _address(folder: Path, page: Path) -> str:
    """Of the run's ``config.yaml`` as seen from the page, quoted; empty if there is none."""
    target = folder / "config.yaml"
    if not os.path.isfile(target):  # noqa: PTH113 - Path.is_file raises in closed folders and for long names
        return ""
    return quote(os.fsencode(os.path.relpath(target, page.parent)))


def _signs(difference: Difference | None) -> list[str]:
    """Better or worse than the baseline where Student's t interval excludes zero and no run is missing."""
    if difference is None or difference.group.missing or difference.baseline.missing:
        return []
    low, high = difference.t_interval or (0, 0)
    return ["better"] if high < 0 else ["worse"] if low > 0 else []


def _kinds(comparison: Comparison, group: Group) -> list[str]:
    """The classes of a row of the summary."""
    kinds = ["best"] if group.number in comparison.best else []
    kinds += [] if group.runs and not group.missing else ["incomplete"] if group.runs else ["absent"]
    return kinds + _signs(comparison.row_differences.get(group.number))


def _links(found: Iterable[RunResult | MissingRun], page: Path) -> list[str]:
    return [_address(run.folder, page) for run in found]


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("sslbench.report.page", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["signed"] = DIFFERENCE.kind
    environment.filters["short"] = lambda text: ellipsize(text, _LONGEST)
    environment.filters["hint"] = lambda text: ellipsize(text, _LONGEST_HINT) if len(text) > _LONGEST else ""
    return environment


def render_page(
    comparison: Comparison, curves: Mapping[int, Curve], *, title: str, command: str, page: Path
) -> str:
    """The whole page, which will lie at `page`: links to run folders are relative to it.

    The curves are by the number of the group; `command`, typed in the folder of the page, writes it.
    """
    templates = files("sslbench.report.page").joinpath("templates")
    script = templates.joinpath("sort.js").read_text(encoding="utf-8")
    return (
        _environment()
        .get_template("page.html")
        .render(
            title=title,
            command=command,
            counts={
                "runs": len(comparison.runs),
                "groups": len(comparison.groups),
                "datasets": len({group.task.dataset for group in comparison.groups}),
                "missing": sum(map(comparison.counts, comparison.missing)),
            },
            on_selection=ON_SELECTION,
            on_differences=ON_DIFFERENCES,
            only_baselines=ONLY_BASELINES,
            without_baseline=WITHOUT_BASELINE,
            on_rows=on_rows(comparison),
            summary=summary_table(comparison, Form.PAGE),
            kinds=[_kinds(comparison, group) for group in comparison.groups],
            differences=difference_table(comparison, Form.PAGE),
            signs=list(map(_signs, comparison.differences)),
            runs=run_table(comparison, Form.PAGE),
            run_links=_links(comparison.runs, page),
            missing=missing_table(comparison, Form.PAGE),
            missing_links=_links(comparison.missing, page),
            sections=figure_sections(comparison, curves),
            groups=with_results(comparison.groups),
            commands=commands,
            comparison=comparison,
            copies=[relative(run.folder) for run in comparison.copies],
            style=Markup(templates.joinpath("page.css").read_text(encoding="utf-8")),
            script=Markup(script),
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        )
    )
