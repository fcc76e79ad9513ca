"""Accuracy over training steps: the methods of a task beside each other, then the variants of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter

from sslbench.report.compare.curves import Curve
from sslbench.report.compare.groups import BASELINE, Group, Task
from sslbench.report.figures.captions import not_drawn, sentences, title_of
from sslbench.report.figures.drawing import Panel, label_of, legend, look, panel_axes, to_svg
from sslbench.report.figures.palette import (
    MOST_CURVES,
    Palette,
    Style,
    best_variants,
    first_choice,
    labels,
    style,
)
from sslbench.system.text import ellipsize

RISE = 0.25  # share of a run in which accuracy climbs from chance; the vertical axis need not show it
_POINTS = 120  # of a curve in the page; more cannot be told apart at its width


def draw_curve(axes: Axes, curve: Curve, label: str, look_of: Style, *, points: int = _POINTS) -> float:
    """Plot one group; returns its lowest accuracy (percent) once the first rise is over."""
    every = np.unique(np.linspace(0, len(curve.steps) - 1, min(points, len(curve.steps))).round().astype(int))
    steps, low, valid = curve.steps[every], curve.low[every], curve.valid[every]
    (line,) = axes.plot(steps, curve.mean[every], color=look_of.colour, linewidth=1.6, label=label_of(label))
    line.set(marker=look_of.marker, markersize=3.5, markevery=0.1)
    axes.plot(steps, valid, color=look_of.colour, linewidth=0.8, linestyle=(0, (4, 2)), alpha=0.8)
    axes.fill_between(steps, low, curve.high[every], color=look_of.colour, alpha=0.18, linewidth=0)
    return float(np.minimum(low, valid)[steps >= RISE * steps[-1]].min())


def finish_axes(axes: Axes, lowest: float) -> None:
    """Limits and names; from chance upwards, the last points between methods would be a hair's breadth."""
    high = axes.dataLim.y1
    margin = max(0.05 * (high - lowest), 0.1)
    axes.set_ylim(lowest - margin, high + margin)
    axes.set_xlabel("training step")
    axes.set_ylabel("accuracy (%)")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def curve_labels(groups: Sequence[Group], rows: Sequence[Group], curves: Mapping[int, Curve]) -> list[str]:
    """Legend entries with the number of runs in each curve; `rows` are those of the task."""
    numbers = [curves[group.number].n for group in groups]
    return [
        f"{name}, {n} {'seed' if n == 1 else 'seeds'}"
        for name, n in zip(labels(groups, rows), numbers, strict=True)
    ]


def _panel(
    name: str,
    title: str,
    caption: str,
    drawn: Sequence[tuple[Group, Style]],
    rows: Sequence[Group],
    curves: Mapping[int, Curve],
) -> Panel:
    with look(name):
        entries = curve_labels([group for group, _ in drawn], rows, curves)
        figure, axes = panel_axes(entries)
        lows = [
            draw_curve(axes, curves[group.number], entry, look_of)
            for (group, look_of), entry in zip(drawn, entries, strict=True)
        ]
        finish_axes(axes, min(lows))
        legend(axes)
        return Panel(title, caption, to_svg(figure, name, f"Accuracy over training steps. {title}"))


def curve_panels(
    task: Task, groups: Sequence[Group], curves: Mapping[int, Curve], palette: Palette, name: str
) -> list[Panel]:
    """The panels of one task; none where no run has curves.

    The first has the best variant of each method, up to eight and the baseline. A method with more variants
    than one, or that did not fit there, gets a panel of its own, with its best eight.
    """
    drawn = [group for group in groups if group.number in curves]
    if not drawn:
        return []
    first = first_choice(drawn)
    baselines = [group for group in first if group.head.algorithm == BASELINE]
    methods = sum(group.head.algorithm != BASELINE for group in best_variants(drawn))
    without = not_drawn(len(groups) - len(drawn), "curves")
    caption = "The variant of each method with the best validation accuracy."
    if len(first) == len(drawn):
        caption = "" if without else "Every configuration."
    elif methods > MOST_CURVES:
        caption += f" The best {MOST_CURVES} of {methods} methods; the others have panels of their own."
    caption = sentences(caption, without)
    looks = [(group, palette.of(group)) for group in first]
    panels = [_panel(f"{name}-all", title_of(task), caption, looks, groups, curves)]
    by_method: dict[str, list[Group]] = {}
    for group in drawn:
        by_method.setdefault(group.head.algorithm, []).append(group)
    for place, (algorithm, variants) in enumerate(sorted(by_method.items())):
        if all(group in first for group in variants):
            continue
        chosen = sorted(variants, key=lambda group: -group.val_acc.mean)[:MOST_CURVES]
        chosen.sort(key=lambda group: (group.label, group.number))
        count = f"{len(variants)} variants" if len(variants) > 1 else "one configuration"
        if len(chosen) < len(variants):
            count = f"the best {len(chosen)} of {count}"
        beside = [] if algorithm == BASELINE else baselines[:1]
        looks = [(group, style(place)) for place, group in enumerate(chosen)]
        title = f"{ellipsize(algorithm, 40)}: {title_of(task)}"
        text = f"{count}, by validation accuracy{'; grey: supervised training' if beside else ''}."
        panels.append(
            _panel(
                f"{name}-{place}",
                title,
                text[0].upper() + text[1:],
                [*looks, *((group, palette.of(group)) for group in beside)],
                groups,
                curves,
            )
        )
    return panels
