"""Accuracy over training steps: the algorithms of a task in one panel, then the variants of each."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter

from sslbench.report.compare.curves import Curve
from sslbench.report.compare.groups import BASELINE, Group, Task, collected, validation_order
from sslbench.report.figures.captions import not_drawn, sentences, title_of
from sslbench.report.figures.drawing import Panel, label_of, look, panel_axes, to_panel
from sslbench.report.figures.palette import MOST_CURVES, Palette, Style, labels, most_important, style
from sslbench.system.text import ellipsize

RISE = 0.25  # share of a run in which accuracy climbs from chance; the vertical axis need not show it
_POINTS = 120  # of a curve in the page; more look the same at its width
_MOST_MARKERS = 60  # of a curve, up to which each evaluation has one; more would be a band


def draw_curves(
    axes: Axes,
    drawn: Sequence[tuple[Group, Style]],
    rows: Sequence[Group],
    curves: Mapping[int, Curve],
    points: int = _POINTS,
) -> None:
    """Draw groups that have curves, with their legend entries; `rows` are all groups of the task.

    Curves of more than `points` are thinned.
    """
    names = labels([group for group, _ in drawn], rows)
    lowest = []
    for (group, own), name in zip(drawn, names, strict=True):
        curve = curves[group.number]
        entry = f"{name}, {curve.n} {'seed' if curve.n == 1 else 'seeds'}"
        count = min(points, len(curve.steps))
        kept = np.unique(np.linspace(0, len(curve.steps) - 1, count).round().astype(int))
        steps, low, valid = curve.steps[kept], curve.low[kept], curve.valid[kept]
        (line,) = axes.plot(steps, curve.mean[kept], color=own.colour, linewidth=1.6, label=label_of(entry))
        every = -(-len(steps) // _MOST_MARKERS)
        line.set(marker=own.marker, markersize=3.5, markevery=((len(steps) - 1) % every, every))
        axes.plot(steps, valid, color=own.colour, linewidth=0.8, linestyle=(0, (4, 2)), alpha=0.8)
        axes.fill_between(steps, low, curve.high[kept], color=own.colour, alpha=0.18, linewidth=0)
        lowest.append(float(np.minimum(low, valid)[steps >= RISE * steps[-1]].min()))
    # From chance upwards, the last points between algorithms would be a hair's breadth.
    bottom, top = min(lowest), axes.dataLim.y1
    margin = max(0.05 * (top - bottom), 0.1)
    axes.set_ylim(bottom - margin, top + margin)
    axes.set(xlabel="training step", ylabel="accuracy (%)")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def _panel(
    title: str,
    caption: str,
    drawn: Sequence[tuple[Group, Style]],
    rows: Sequence[Group],
    curves: Mapping[int, Curve],
) -> Panel:
    with look():
        axes = panel_axes()
        draw_curves(axes, drawn, rows, curves)
        return to_panel(axes, title, caption, "Accuracy over training steps")


def curve_panels(
    task: Task, groups: Sequence[Group], curves: Mapping[int, Curve], palette: Palette
) -> list[Panel]:
    """The panels of one task; none where no run has curves.

    The first has the best variant of each algorithm, up to eight and the baseline. An algorithm with more
    variants than one, or that did not fit there, gets a panel of its own, with its best eight.
    """
    drawn = [group for group in groups if group.number in curves]
    if not drawn:
        return []
    first = most_important(drawn)
    baselines = [group for group in first if group.identity.algorithm == BASELINE]
    caption = sentences(
        f"{len(first)} of {len(drawn)} configurations: the variant of each algorithm with the best "
        f"validation accuracy, of at most {MOST_CURVES} algorithms.",
        not_drawn(len(groups) - len(drawn), "curves"),
    )
    looks = [(group, palette.of(group)) for group in first]
    panels = [_panel(title_of(task), caption, looks, groups, curves)]
    for algorithm, variants in sorted(collected(drawn, lambda group: group.identity.algorithm).items()):
        if all(group in first for group in variants):
            continue
        best = sorted(variants, key=validation_order)[:MOST_CURVES]
        best.sort(key=lambda group: (group.label, group.number))
        caption = f"The best {len(best)} of {len(variants)}, by validation accuracy"
        looks = [(group, style(place)) for place, group in enumerate(best)]
        if algorithm != BASELINE and baselines:
            caption += "; grey: supervised training"
            looks.append((baselines[0], palette.of(baselines[0])))
        title = f"{ellipsize(algorithm, 40)}: {title_of(task)}"
        panels.append(_panel(title, f"{caption}.", looks, groups, curves))
    return panels
