"""Accuracy over training steps, one panel for each data set and number of labels."""

from __future__ import annotations

import io
import itertools
from collections import Counter, defaultdict
from collections.abc import Sequence

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from sslbench.errors import UserError
from sslbench.report.results import RunResult, relative
from sslbench.report.summary import Group
from sslbench.tracking.jsonl import FILE_NAME, read_metrics

TEST, VALID = "test/acc", "val/acc"
# Okabe and Ito's palette, which colour-blind readers can tell apart; yellow, faint on white, comes last.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
_RISE = 0.25  # share of a run in which accuracy climbs from chance; the vertical axis need not show it
_MARKERS = ("", "o", "^", "s")  # beyond eight curves the colours repeat with another marker


def read_curves(run: RunResult) -> pd.DataFrame:
    """Validation and test accuracy (fractions) of one run, indexed by step.

    Raises:
        UserError: ``metrics.jsonl`` is missing, broken, or has no step with both accuracies.
    """
    path = run.folder / FILE_NAME
    try:
        points = read_metrics(path)
    except OSError as error:
        raise UserError(f"the figure needs {relative(path)}: {error.strerror}") from error
    table = pd.DataFrame(points, columns=["step", TEST, VALID]).dropna()
    # Should a step have been logged twice, the later line counts.
    curves = table.drop_duplicates("step", keep="last").set_index("step").astype(float).sort_index()
    if curves.empty:
        raise UserError(f"{relative(path)} has no step with {TEST} and {VALID}")
    return curves


def _draw(axes: Axes, group: Group, label: str, colour: str, marker: str) -> float:
    """Plot one group; returns its lowest test accuracy (percent) once the first rise is over."""
    curves = [read_curves(run) for run in group.runs]
    # Only steps that every run has: a mean over fewer seeds would jump where one is missing.
    test = 100 * pd.concat([curve[TEST] for curve in curves], axis=1, join="inner")
    valid = 100 * pd.concat([curve[VALID] for curve in curves], axis=1, join="inner").mean(axis=1)
    if test.empty:
        raise UserError(f"group '{group.head.group}': no step was evaluated in all of its runs")
    steps = test.index.to_numpy()
    mean, low, high = (getattr(test, name)(axis=1).to_numpy() for name in ("mean", "min", "max"))
    (line,) = axes.plot(steps, mean, color=colour, linewidth=1.6, label=label)
    line.set(marker=marker, markersize=3.5, markevery=0.1)
    axes.plot(steps, valid.to_numpy(), color=colour, linewidth=0.8, linestyle=(0, (4, 2)), alpha=0.8)
    axes.fill_between(steps, low, high, color=colour, alpha=0.2, linewidth=0)
    return float(low[steps >= _RISE * steps[-1]].min())


def _labels(groups: Sequence[Group]) -> list[str]:
    """Legend entries; groups of one panel that would read the same get their row in the tables."""
    count = Counter(group.label for group in groups)
    labels = []
    for group in groups:
        n = len(group.runs)
        row = f", row {group.number}" if count[group.label] > 1 else ""
        labels.append(f"{group.label}, {n} {'seed' if n == 1 else 'seeds'}{row}")
    return labels


def render_figure(groups: Sequence[Group], *, title: str, file_format: str) -> bytes:
    """Draw the groups.

    Args:
        groups: from `group_runs`.
        title: over all panels.
        file_format: ``png`` or ``svg``.

    Returns:
        The content of the image file; the same groups give the same bytes.

    Raises:
        UserError: the ``metrics.jsonl`` of a run is missing or broken.
    """
    panels: dict[tuple[str, int], list[Group]] = defaultdict(list)
    for group in groups:
        panels[group.head.dataset, group.head.num_labels].append(group)
    columns = 2 if len(panels) == 4 else min(len(panels), 3)
    rows = -(-len(panels) // columns)
    entries = max(len(members) for members in panels.values())
    size = (max(5.2 * columns, 6.4), (3.8 + 0.11 * entries) * rows + 0.6)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).flat
    # A method keeps its colour in every panel; the count tells apart its variants within one.
    styles: dict[tuple[str, int], tuple[str, str]] = {}
    supply = itertools.cycle((colour, marker) for marker in _MARKERS for colour in _COLOURS)
    for ((dataset, num_labels), members), axes in zip(panels.items(), grid, strict=False):
        seen: Counter[str] = Counter()
        lows = []
        for group, label in zip(members, _labels(members), strict=True):
            variant = (group.label, seen[group.label])
            seen[group.label] += 1
            if variant not in styles:
                styles[variant] = next(supply)
            lows.append(_draw(axes, group, label, *styles[variant]))
        # From chance upwards, the last points between methods would be a hair's breadth.
        low, high = min(lows), axes.dataLim.y1
        margin = max(0.05 * (high - low), 0.1)
        axes.set_ylim(low - margin, high + margin)
        axes.set_title(f"{dataset}, {num_labels} labels", fontsize=11)
        axes.set_xlabel("training step")
        axes.set_ylabel("accuracy (%)")
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.grid(alpha=0.3, linewidth=0.5)
        axes.spines[["top", "right"]].set_visible(False)
        legend_columns = 1 if len(members) == 1 else 2
        axes.legend(
            loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=legend_columns, fontsize=8, frameon=False
        )
    for axes in grid:  # the last row may have places left
        axes.set_visible(False)
    figure.suptitle(
        f"{title}\nsolid: test, mean over seeds; band: lowest to highest seed; dashed: validation, mean\n"
        f"the vertical axis may leave out the rise in the first {_RISE:.0%} of the steps",
        fontsize=9,
    )
    out = io.BytesIO()
    # Neither a date nor random names: a figure changes when its numbers do.
    metadata = {"Date": None} if file_format == "svg" else {}
    with mpl.rc_context({"svg.hashsalt": "sslbench"}):
        figure.savefig(out, format=file_format, dpi=150, metadata=metadata)
    return out.getvalue()
