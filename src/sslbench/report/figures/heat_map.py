"""Algorithms against distances: the mean test error of each pair."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from sslbench.report.compare.groups import Group, Task, best_by_validation, collected
from sslbench.report.figures.captions import title_of
from sslbench.report.figures.drawing import WIDTH, Panel, fitted_axes, look, to_svg
from sslbench.system.text import ellipsize

_NO_LOSS = "none"
_CELL = 0.66, 0.42  # inches, at the least
_LETTER = 0.078  # inches of a letter of a name
_BAR = 1.1  # inches that the colour bar and its name need
_LIGHT = 0.55  # of the colour scale: numbers on darker cells are white


def heat_map_panel(task: Task, groups: Sequence[Group]) -> Panel | None:
    """The heat map of a task; None where no algorithm has two distances, with results or planned.

    A pair that was planned and has no result is hatched and says why. A pair with fewer seeds than planned
    says so, and a pair that was not planned is empty. Of several variants of a pair the one with the best
    validation accuracy counts.
    """
    pairs = collected(groups, lambda group: (group.identity.algorithm, group.identity.loss or _NO_LOSS))
    rows = sorted({algorithm for algorithm, _ in pairs})
    if len(pairs) == len(rows):
        return None
    columns = sorted({loss for _, loss in pairs}, key=lambda loss: (loss == _NO_LOSS, loss))
    with look(**{"axes.grid": False}):
        names = [ellipsize(name, 24) for name in rows], [ellipsize(name, 14) for name in columns]
        wide = max(_CELL[0], _LETTER * max(map(len, names[1])) + 0.08)
        width = _LETTER * max(map(len, names[0])) + wide * len(columns) + 1.2
        figure, axes = fitted_axes(max(WIDTH, width), max(_CELL[1] * len(rows), _BAR) + 0.4)
        errors = np.full((len(rows), len(columns)), np.nan)
        cells = {
            (rows.index(algorithm), columns.index(loss)): members
            for (algorithm, loss), members in pairs.items()
        }
        for cell, members in cells.items():
            if best := best_by_validation(members):
                errors[cell] = 100 * best.test_error.mean
        colours = mpl.colormaps["viridis_r"].with_extremes(bad="#f4f4f4")
        image = axes.imshow(np.ma.masked_invalid(errors), cmap=colours, aspect="auto")
        shades = np.asarray(image.norm(errors))  # NaN of an empty cell is not above anything
        for cell, members in cells.items():
            _cell(axes, *cell, members, "white" if shades[cell] > _LIGHT else "black")
        axes.set_xticks(range(len(columns)), names[1])
        axes.set_yticks(range(len(rows)), names[0])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.xaxis.tick_top()
        if np.isfinite(errors).any():
            figure.colorbar(image, label="test error (%)")
        caption = (
            "Mean test error ± sample standard deviation in percent. Hatched: planned, without a result. "
            "Empty: not planned. Of several variants the one with the best validation accuracy. Orange "
            "corner: some seeds are missing, of this variant or another of the pair."
        )
        return Panel(title_of(task), caption, "Test error by algorithm and distance", to_svg(figure))


def _cell(axes: Axes, row: int, column: int, members: Sequence[Group], ink: str) -> None:
    best = best_by_validation(members)
    missing = [cell for member in members for cell in member.missing]
    if best is None:
        corner = (column - 0.5, row - 0.5)
        axes.add_patch(Rectangle(corner, 1, 1, fill=False, hatch="////", edgecolor="#999999", linewidth=0))
        why = {cell.status for cell in missing}
        word = why.pop() if len(why) == 1 else f"{len(missing)} missing"
        ground = {"facecolor": "#f4f4f4", "edgecolor": "none", "pad": 1}
        axes.text(column, row, word, ha="center", va="center", fontsize=7, bbox=ground)
        return
    error = best.test_error
    lines = [f"{100 * error.mean:.2f}", *([f"± {100 * error.std:.2f}"] if error.std is not None else [])]
    if best.missing or error.n == 1:
        lines.append(f"n={best.seeds}")
    axes.text(column, row, "\n".join(lines), ha="center", va="center", fontsize=7.5, color=ink)
    if missing:  # a corner, so that it is seen without reading
        axes.scatter(column + 0.42, row - 0.36, marker="s", s=14, color="#D55E00", zorder=3)
