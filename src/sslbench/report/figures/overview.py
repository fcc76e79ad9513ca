"""The figure of ``--figure``: accuracy over steps, one panel for each data set and number of labels."""

from __future__ import annotations

import io
import itertools
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from sslbench.report.curves import Curve
from sslbench.report.figures.curves import RISE, curve_labels, draw_curve, finish_axes
from sslbench.report.figures.drawing import legend_columns, look
from sslbench.report.figures.palette import Style, style
from sslbench.report.groups import Group
from sslbench.text import short

_ALL_POINTS = 2000  # of a curve: a file of its own may be large


def render_figure(
    groups: Sequence[Group], curves: Mapping[int, Curve], *, title: str, file_format: str
) -> bytes:
    """Draw the groups that have curves, of which there must be one.

    Args:
        groups: from `group_runs`.
        curves: from `gather_curves`.
        title: over all panels.
        file_format: ``png`` or ``svg``.

    Returns:
        The content of the image file; the same groups give the same bytes.
    """
    panels: dict[tuple[str, int], list[Group]] = defaultdict(list)
    for group in groups:
        if group.number in curves:
            panels[group.head.dataset, group.head.num_labels].append(group)
    columns = 2 if len(panels) == 4 else min(len(panels), 3)
    rows = -(-len(panels) // columns)
    entries = {key: curve_labels(members, curves) for key, members in panels.items()}
    width = max(5.2 * columns, 6.4)
    ncols = {key: legend_columns(names, 2, width / columns - 0.3) for key, names in entries.items()}
    most = max(-(-len(names) // ncols[key]) for key, names in entries.items())
    size = (width, (3.8 + 0.2 * most) * rows + 0.6)
    # Outlines, since a picture of its own may be shown where there is no font like matplotlib's.
    with look(**{"svg.fonttype": "path"}):
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False).flat
        # A method keeps its colour in every panel; the count tells apart its variants within one.
        styles: dict[tuple[str, str, int], Style] = {}
        supply = map(style, itertools.count())
        for ((dataset, num_labels), members), axes in zip(panels.items(), grid, strict=False):
            seen: Counter[tuple[str, str]] = Counter()
            lows = []
            for group, label in zip(members, entries[dataset, num_labels], strict=True):
                kind = group.label, group.head.model
                variant = (*kind, seen[kind])
                seen[kind] += 1
                if variant not in styles:
                    styles[variant] = next(supply)
                lows.append(
                    draw_curve(axes, curves[group.number], label, styles[variant], points=_ALL_POINTS)
                )
            finish_axes(axes, min(lows))
            axes.set_title(f"{short(dataset, 40)}, {num_labels} labels", fontsize=11)
            axes.legend(
                loc="upper center",
                bbox_to_anchor=(0.5, -0.16),
                ncols=ncols[dataset, num_labels],
            )
        for axes in grid:  # the last row may have places left
            axes.set_visible(False)
        figure.suptitle(
            f"{short(title, 100)}\nsolid: test, mean over seeds; band: lowest to highest seed; "
            "dashed: validation, mean\n"
            f"the vertical axis may leave out the rise in the first {RISE:.0%} of the steps",
            fontsize=9,
        )
        out = io.BytesIO()
        # Neither a date nor random names: a figure changes when its numbers do.
        metadata = {"Date": None} if file_format == "svg" else {}
        figure.savefig(out, format=file_format, dpi=150, metadata=metadata)
    return out.getvalue()
