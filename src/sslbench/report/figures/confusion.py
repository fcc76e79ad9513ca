"""Which classes a model takes for which: the confusion matrix of the best configuration of a task."""

from collections.abc import Sequence

import numpy as np

from sslbench.errors import UserError
from sslbench.report.compare.groups import Group, Task
from sslbench.report.figures.captions import sentences, title_of
from sslbench.report.figures.drawing import WIDTH, Panel, fitted_axes, look, to_svg
from sslbench.report.figures.palette import best_variants, labels
from sslbench.rundir.records import MODEL, RunResult
from sslbench.system.safe_files import read_json
from sslbench.system.text import ellipsize

_WRITTEN = 12  # classes up to which each cell has its number
_NAMED = 40  # classes up to which the axes have their names
_LIGHT = 0.5  # share from which a number is white


def confusion_panel(task: Task, groups: Sequence[Group]) -> Panel | None:
    """The matrix of the configuration that validation puts first; None where no run has one."""
    found = [group for group in best_variants(groups) if any(run.test_confusion for run in group.runs)]
    if not found:
        return None
    best = found[0]
    runs = [run for run in best.runs if run.test_confusion]
    counts = np.sum([run.test_confusion or () for run in runs], axis=0)
    with np.errstate(invalid="ignore"):  # of a class without images
        shares = counts / counts.sum(axis=1, keepdims=True)
    classes = len(counts)
    with look(**{"axes.grid": False}):
        side = max(WIDTH, 0.34 * min(classes, _NAMED) + 1.2)
        figure, axes = fitted_axes(side, side)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        if classes <= _WRITTEN:
            for row, column in np.ndindex(*shares.shape):
                if counts[row, column]:
                    ink = "white" if shares[row, column] > _LIGHT else "black"
                    text = f"{100 * shares[row, column]:.1f}"
                    axes.text(column, row, text, ha="center", va="center", fontsize=7, color=ink)
        if classes <= _NAMED:
            names = [ellipsize(name, 14) for name in _class_names(runs[0], classes)]
            axes.set_xticks(range(classes), names, rotation=90)
            axes.set_yticks(range(classes), names)
        axes.set(xlabel="predicted class", ylabel="true class")
        [name] = labels([best], groups)
        balanced = [run.test_balanced_acc for run in runs if run.test_balanced_acc is not None]
        caption = sentences(
            f"{name}, the first by validation accuracy: percent of the test images of each class, at the "
            f"best step, over {len(runs)} run{'s' * (len(runs) > 1)}.",
            f"Balanced accuracy: {100 * float(np.mean(balanced)):.2f} %." if balanced else "",
        )
        return Panel(title_of(task), caption, "Confusion matrix", to_svg(figure))


def _class_names(run: RunResult, count: int) -> list[str]:
    """Those that the run has saved, or the numbers of the classes."""
    try:
        names = read_json(run.folder / MODEL).get("class_names")
    except UserError:
        names = None
    return list(map(str, names if isinstance(names, list) and len(names) == count else range(count)))
