"""Test accuracy against the number of labels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from matplotlib.ticker import FixedLocator, NullLocator

from sslbench.report.figures.drawing import Panel, label_of, legend, look, panel_axes, to_svg
from sslbench.report.figures.palette import MOST_CURVES, Palette
from sslbench.report.groups import BASELINE, Group, best_by_validation
from sslbench.text import short

_Setting = tuple[str, str, int, int]  # data set, model, validation images, steps


def label_panels(groups: Sequence[Group], palette: Palette, name: str) -> list[Panel]:
    """A panel for each data set, model, validation images and steps where a method has several label counts.

    At each number the variant of a method with the best validation accuracy counts. There are at most eight
    methods, the best by validation accuracy at the largest number of labels, beside the baseline.
    """
    settings: dict[_Setting, list[Group]] = defaultdict(list)
    for group in groups:
        if group.runs and group.head.num_labels > 0:
            head = group.head
            settings[head.dataset, head.model, head.num_valid, head.steps].append(group)
    panels = []
    for place, (setting, members) in enumerate(sorted(settings.items())):
        lines = {algorithm: points for algorithm, points in _lines(members).items() if len(points) > 1}
        if lines:
            panels.append(_panel(setting, lines, palette, f"{name}-{place}"))
    return panels


def _lines(groups: Sequence[Group]) -> dict[str, list[Group]]:
    """Of each algorithm the best variant at each number of labels, in ascending order."""
    variants: dict[tuple[str, int], list[Group]] = defaultdict(list)
    for group in groups:
        variants[group.head.algorithm, group.head.num_labels].append(group)
    lines: dict[str, list[Group]] = defaultdict(list)
    for (algorithm, _), members in sorted(variants.items()):
        if best := best_by_validation(members):
            lines[algorithm].append(best)
    return lines


def _panel(setting: _Setting, lines: dict[str, list[Group]], palette: Palette, name: str) -> Panel:
    dataset, model, num_valid, steps = setting
    order = sorted(lines, key=lambda algorithm: -lines[algorithm][-1].val_acc.mean)
    shown = [algorithm for algorithm in order if algorithm != BASELINE][:MOST_CURVES]
    left = len(order) - len(shown) - (BASELINE in lines)
    shown += [BASELINE] if BASELINE in lines else []
    title = f"{short(dataset, 40)}, {short(model, 40)}, {num_valid} validation images, {steps} steps"
    counts = sorted({group.head.num_labels for algorithm in shown for group in lines[algorithm]})
    with look(name):
        figure, axes = panel_axes([short(algorithm, 28) for algorithm in shown], 3)
        for algorithm in shown:
            points, own = lines[algorithm], palette.of(lines[algorithm][0])
            axes.errorbar(
                [group.head.num_labels for group in points],
                [100 * (1 - group.test_error.mean) for group in points],
                yerr=[100 * (group.test_error.std or 0) for group in points],
                color=own.colour,
                marker=own.marker,
                markersize=4,
                linewidth=1.5,
                capsize=2,
                label=label_of(short(algorithm, 28)),
            )
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator([float(count) for count in counts]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_xlabel("labelled images")
        axes.set_ylabel("test accuracy (%)")
        legend(axes, 3)
        caption = (
            "Mean over seeds, bars: one sample standard deviation. Of each method the variant with the best "
            "validation accuracy at that number of labels."
        )
        if left:
            caption += f" The best {MOST_CURVES} methods; {left} more are in the table."
        return Panel(title, caption, to_svg(figure, name, f"Test accuracy against labels. {title}"))
