"""The figure of ``--figure``: accuracy over steps, one panel for each task."""

import io
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from sslbench.report.compare.curves import Curve
from sslbench.report.compare.groups import Group, by_task, with_results
from sslbench.report.figures.captions import not_drawn, title_of, without_result
from sslbench.report.figures.curve_panels import RISE, draw_curves
from sslbench.report.figures.drawing import look
from sslbench.report.figures.palette import Palette, most_important
from sslbench.system.text import ellipsize

_ALL_POINTS = 2000  # of a curve: a file of its own may be large
_MOST_PANELS = 24  # a picture of more is too long to be opened


def _title(rows: Sequence[Group], curves: Mapping[int, Curve], drawn: int) -> str:
    """The task, and lines on the groups that are not drawn."""
    known = sum(row.number in curves for row in rows)
    lines = [
        title_of(rows[0].task),
        f"Best by validation accuracy: {drawn} of {known} configurations." if drawn < known else "",
        without_result(rows),
        not_drawn(len(with_results(rows)) - known, "curves"),
    ]
    return "\n".join(filter(None, lines))


def _heading(title: str, left: int) -> str:
    lines = [
        ellipsize(title, 100),
        "solid: test, mean over seeds; band: lowest to highest seed; dashed: validation, mean",
        f"the vertical axis may leave out the rise in the first {RISE:.0%} of the steps",
        f"{left} more {'task is' if left == 1 else 'tasks are'} not drawn" if left else "",
    ]
    return "\n".join(filter(None, lines))


def render_figure(
    groups: Sequence[Group], curves: Mapping[int, Curve], *, title: str, file_format: str
) -> bytes:
    """The image file, ``png`` or ``svg``, of the best variants; the same groups give the same bytes.

    Curves are by the number of the group; one group at least must have some. The title is over all panels.
    """
    tasks = by_task(groups)
    with_curves = [rows for rows in tasks.values() if any(row.number in curves for row in rows)]
    panels = [
        (rows, most_important([row for row in rows if row.number in curves]))
        for rows in with_curves[:_MOST_PANELS]
    ]
    columns = 2 if len(panels) == 4 else min(len(panels), 3)
    lines = -(-len(panels) // columns)
    width = max(5.2 * columns, 6.4)
    most = max(len(drawn) for _, drawn in panels)
    palette = Palette(groups)
    # Outlines, since a picture of its own may be shown where there is no font like matplotlib's.
    with look(**{"svg.fonttype": "path"}):
        figure = Figure(figsize=(width, (4.0 + 0.2 * most) * lines + 0.6), layout="constrained")
        grid = figure.subplots(lines, columns, squeeze=False).flat
        for (rows, drawn), axes in zip(panels, grid, strict=False):
            draw_curves(axes, [(group, palette.of(group)) for group in drawn], rows, curves, _ALL_POINTS)
            axes.set_title(_title(rows, curves, len(drawn)), fontsize=9)
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16))
        for axes in grid:  # the last row may have places left
            axes.set_visible(False)
        figure.suptitle(_heading(title, len(tasks) - len(panels)), fontsize=9)
        out = io.BytesIO()
        # Neither a date nor random names: a figure changes when its numbers do.
        metadata = {"Date": None} if file_format == "svg" else {}
        figure.savefig(out, format=file_format, dpi=150, metadata=metadata)
    return out.getvalue()
