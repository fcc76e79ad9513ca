"""The figure of ``--figure``: accuracy over steps, one panel for each task."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from sslbench.report.compare.curves import Curve
from sslbench.report.compare.groups import Group, Task
from sslbench.report.figures.captions import not_drawn, title_of, without_result
from sslbench.report.figures.curve_panels import RISE, curve_labels, draw_curve, finish_axes
from sslbench.report.figures.drawing import legend_columns, look
from sslbench.report.figures.palette import Palette, first_choice
from sslbench.system.text import ellipsize

_ALL_POINTS = 2000  # of a curve: a file of its own may be large
_MOST_PANELS = 24  # a picture of more is too long to be opened


@dataclass(frozen=True)
class _Panel:
    """One task.

    Attributes:
        drawn: its groups that are shown.
        entries: of the legend, one for each.
        left_out: lines on the others.
    """

    drawn: list[Group]
    entries: list[str]
    left_out: list[str]

    @classmethod
    def of(cls, rows: Sequence[Group], curves: Mapping[int, Curve]) -> _Panel:
        known = [group for group in rows if group.number in curves]
        drawn = first_choice(known)
        lines = [without_result(rows), not_drawn(sum(bool(row.runs) for row in rows) - len(known), "curves")]
        if len(drawn) < len(known):
            lines.insert(0, f"Best by validation accuracy: {len(drawn)} of {len(known)} configurations.")
        return cls(drawn, curve_labels(drawn, rows, curves), [line for line in lines if line])


def _heading(title: str, left: int) -> str:
    lines = [
        ellipsize(title, 100),
        "solid: test, mean over seeds; band: lowest to highest seed; dashed: validation, mean",
        f"the vertical axis may leave out the rise in the first {RISE:.0%} of the steps",
    ]
    if left:
        lines.append(f"{left} more {'task is' if left == 1 else 'tasks are'} not drawn")
    return "\n".join(lines)


def render_figure(
    groups: Sequence[Group], curves: Mapping[int, Curve], *, title: str, file_format: str
) -> bytes:
    """Draw the best variant of each method, of which one at least must have curves.

    Args:
        groups: from `group_runs`.
        curves: from `gather_curves`.
        title: over all panels.
        file_format: ``png`` or ``svg``.

    Returns:
        The content of the image file; the same groups give the same bytes.
    """
    tasks: dict[Task, list[Group]] = defaultdict(list)
    for group in groups:
        tasks[group.task].append(group)
    with_curves = [rows for rows in tasks.values() if any(row.number in curves for row in rows)]
    panels = [_Panel.of(rows, curves) for rows in with_curves[:_MOST_PANELS]]
    columns = 2 if len(panels) == 4 else min(len(panels), 3)
    lines = -(-len(panels) // columns)
    width = max(5.2 * columns, 6.4)
    ncols = [legend_columns(panel.entries, 2, width / columns - 0.3) for panel in panels]
    most = max(-(-len(panel.entries) // ncol) for panel, ncol in zip(panels, ncols, strict=True))
    palette = Palette(groups)
    # Outlines, since a picture of its own may be shown where there is no font like matplotlib's.
    with look(**{"svg.fonttype": "path"}):
        figure = Figure(figsize=(width, (4.0 + 0.2 * most) * lines + 0.6), layout="constrained")
        grid = figure.subplots(lines, columns, squeeze=False).flat
        for panel, ncol, axes in zip(panels, ncols, grid, strict=False):
            lows = [
                draw_curve(axes, curves[group.number], entry, palette.of(group), points=_ALL_POINTS)
                for group, entry in zip(panel.drawn, panel.entries, strict=True)
            ]
            finish_axes(axes, min(lows))
            axes.set_title("\n".join((title_of(panel.drawn[0].task), *panel.left_out)), fontsize=9)
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=ncol)
        for axes in grid:  # the last row may have places left
            axes.set_visible(False)
        figure.suptitle(_heading(title, len(tasks) - len(panels)), fontsize=9)
        out = io.BytesIO()
        # Neither a date nor random names: a figure changes when its numbers do.
        metadata = {"Date": None} if file_format == "svg" else {}
        figure.savefig(out, format=file_format, dpi=150, metadata=metadata)
    return out.getvalue()
