"""Test accuracy against the number of labels."""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator

from sslbench.report.compare.groups import BASELINE, Group, best_by_validation, collected
from sslbench.report.figures.captions import is_partial, not_drawn, sentences
from sslbench.report.figures.drawing import Panel, label_of, look, panel_axes, to_panel
from sslbench.report.figures.palette import MOST_CURVES, Palette, Style
from sslbench.system.text import ellipsize

_Setting = tuple[str, str, int, int]  # data set, model, validation images, steps
_Lines = dict[str, dict[int, Group | None]]  # by algorithm and number of labels; None: planned, no result
_CROSS = 0.04  # share of the height of a panel that a cross needs


def label_panels(groups: Sequence[Group], palette: Palette) -> list[Panel]:
    """A panel for each data set, model, validation images and steps with several numbers of labels.

    At each number the variant of an algorithm with the best validation accuracy counts. There are at most
    eight algorithms, the best by validation accuracy at the largest number of labels, and the baseline. The
    line of an algorithm is broken where it was planned and has no result.
    """

    def setting_of(group: Group) -> _Setting:
        return group.task.dataset, group.identity.model, group.task.num_valid, group.task.steps

    settings = collected((group for group in groups if group.identity.num_labels > 0), setting_of)
    panels = []
    for setting, members in sorted(settings.items()):
        lines = {algorithm: points for algorithm, points in _lines(members).items() if len(points) > 1}
        if any(len(_known(points)) > 1 for points in lines.values()):
            panels.append(_panel(setting, members, lines, palette))
    return panels


def _lines(groups: Sequence[Group]) -> _Lines:
    """Of each algorithm the best variant at each number of labels, in ascending order."""
    variants = collected(groups, lambda group: (group.identity.algorithm, group.identity.num_labels))
    lines: _Lines = defaultdict(dict)
    for (algorithm, count), members in sorted(variants.items()):
        lines[algorithm][count] = best_by_validation(members)
    return lines


def _known(points: Mapping[int, Group | None]) -> list[Group]:
    return [group for group in points.values() if group]


def _panel(setting: _Setting, groups: Sequence[Group], lines: _Lines, palette: Palette) -> Panel:
    dataset, model, num_valid, steps = setting
    # From the best at its largest number of labels to those without any result.
    last = {name: [-1.0, *(group.val_acc.mean for group in _known(lines[name]))][-1] for name in lines}
    order = sorted(lines, key=lambda name: last[name], reverse=True)
    shown = [algorithm for algorithm in order if algorithm != BASELINE][:MOST_CURVES]
    left = len(order) - len(shown) - (BASELINE in lines)
    shown += [BASELINE] if BASELINE in lines else []
    title = f"{ellipsize(dataset, 40)}, {ellipsize(model, 40)}, {num_valid} validation images, {steps} steps"
    lines = {algorithm: lines[algorithm] for algorithm in shown}
    counts = sorted({count for points in lines.values() for count in points})
    styles = {group.identity.algorithm: palette.of(group) for group in groups}
    with look():
        axes = panel_axes()
        for algorithm, points in lines.items():
            _draw_line(axes, points, styles[algorithm], ellipsize(algorithm, 28))
        _draw_crosses(axes, lines, styles)
        axes.set_xscale("log")
        margin = (counts[-1] / counts[0]) ** 0.05
        axes.set_xlim(counts[0] / margin, counts[-1] * margin)  # a cross may be beyond all points
        axes.xaxis.set_major_locator(FixedLocator([float(count) for count in counts]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set(xlabel="labelled images", ylabel="test accuracy (%)")
        # Configurations without a result that leave no cross, since another variant has a result.
        absent = [group.identity for group in groups if not group.runs]
        beside_others = sum(lines.get(run.algorithm, {}).get(run.num_labels) is not None for run in absent)
        caption = sentences(
            "Mean over seeds, bars: one sample standard deviation. Of each algorithm the variant with the "
            "best validation accuracy at that number of labels. Hollow: some of its seeds are missing. "
            "Cross: planned, without a result.",
            not_drawn(beside_others, "result"),
            f"The best {MOST_CURVES} algorithms; {left} more are in the table." if left else "",
        )
        return to_panel(axes, title, caption, "Test accuracy against labels", columns=3)


def _draw_line(axes: Axes, points: Mapping[int, Group | None], own: Style, name: str) -> None:
    axes.errorbar(
        list(points),
        [100 * (1 - group.test_error.mean) if group else math.nan for group in points.values()],
        yerr=[100 * (group.test_error.std or 0) if group else math.nan for group in points.values()],
        color=own.colour,
        marker=own.marker,
        markersize=4,
        linewidth=1.5,
        capsize=2,
        label=label_of(name),
    )
    for count, group in points.items():
        if group and is_partial(group):
            y = 100 * (1 - group.test_error.mean)
            axes.plot(count, y, color=own.colour, marker=own.marker, markersize=4, markerfacecolor="white")


def _draw_crosses(axes: Axes, lines: _Lines, styles: Mapping[str, Style]) -> None:
    """A cross at the bottom for each number of labels without a result, above those of other algorithms."""
    at: Counter[int] = Counter()
    for algorithm, points in lines.items():
        for count in (count for count, group in points.items() if group is None):
            at[count] += 1
            (cross,) = axes.plot(count, _CROSS * at[count], "x", transform=axes.get_xaxis_transform())
            cross.set(color=styles[algorithm].colour, markersize=5, markeredgewidth=1.6)
    if at:  # room for the crosses below the lines
        low, high = axes.get_ylim()
        share = min(_CROSS * (max(at.values()) + 1), 0.5)
        axes.set_ylim(low - share / (1 - share) * (high - low), high)
