"""Test accuracy against training time."""

from collections.abc import Sequence
from itertools import islice

from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

from sslbench.report.compare.groups import Group, Task, mean_std, with_results
from sslbench.report.figures.captions import is_partial, not_drawn, sentences, title_of, without_result
from sslbench.report.figures.drawing import Panel, label_of, look, panel_axes, to_panel
from sslbench.report.figures.palette import Palette, Style
from sslbench.system.text import ellipsize

_LOG_FROM = 5.0  # ratio of the longest to the shortest time from which the axis is logarithmic
_NAMED = 8  # points of a panel up to which each says its distance
_MOST_ENTRIES = 24  # entries of a legend


def seconds_panel(task: Task, groups: Sequence[Group], palette: Palette) -> Panel | None:
    """A point for each configuration of a task; None where there are fewer than two, or no time is known."""
    drawn = [group for group in with_results(groups) if _seconds(group) > 0]
    if len(drawn) < 2:
        return None
    with look():
        several = len({group.identity.model for group in drawn}) > 1
        entries: dict[str, Style] = {}
        for group in drawn:
            run = group.identity
            name = f"{run.algorithm}, {run.model}" if several else run.algorithm
            entries[ellipsize(name, 28)] = palette.of(group)
        axes = panel_axes()
        for name, own in islice(entries.items(), _MOST_ENTRIES):
            # A point of its own, which is filled whether or not the first of the algorithm is.
            (line,) = axes.plot([], [], linestyle="none", label=label_of(name))
            line.set(color=own.colour, marker=own.marker, markersize=5)
        for group in drawn:
            own, (x, y) = palette.of(group), (_seconds(group), 100 * (1 - group.test_error.mean))
            axes.errorbar(
                x,
                y,
                yerr=100 * (group.test_error.std or 0),
                color=own.colour,
                marker=own.marker,
                markersize=5,
                markerfacecolor="white" if is_partial(group) else own.colour,
                linestyle="none",
                elinewidth=0.8,
                alpha=0.85,
            )
            if len(drawn) <= _NAMED and group.identity.loss:
                name = ellipsize(group.identity.loss, 12)
                axes.annotate(name, (x, y), xytext=(5, 3), textcoords="offset points", fontsize=7)
        times = [_seconds(group) for group in drawn]
        if max(times) / min(times) > _LOG_FROM:
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set(xlabel="training time, mean over seeds (s)", ylabel="test accuracy (%)")
        caption = sentences(
            "A point for each configuration: mean over seeds, bars: one sample standard deviation. Hollow: "
            "some of its seeds are missing.",
            without_result(groups),
            not_drawn(len(with_results(groups)) - len(drawn), "training time"),
        )
        devices = sorted({run.device for group in drawn for run in group.runs})
        if len(devices) > 1:
            caption += f" The times are from {len(devices)} kinds of device and not comparable throughout."
        return to_panel(axes, title_of(task), caption, "Test accuracy against seconds", columns=3)


def _seconds(group: Group) -> float:
    return mean_std([run.train_seconds for run in group.runs]).mean
