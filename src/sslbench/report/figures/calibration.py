"""Whether a model is as often right as it is confident: reliability diagrams."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sslbench.report.compare.groups import Group, Task, mean_std
from sslbench.report.figures.captions import sentences, title_of, without_result
from sslbench.report.figures.drawing import Panel, label_of, look, panel_axes, to_panel
from sslbench.report.figures.palette import Palette, labels, most_important
from sslbench.rundir.records import Calibration

_FEWEST = 10  # images of a bin that is drawn; the share of fewer is chance


def pooled(bins: Sequence[Calibration]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Mean confidence, accuracy and count of each bin over several runs with equally many bins.

    An empty bin has NaN.
    """
    counts = np.array([run.counts for run in bins], dtype=np.int64)
    totals = counts.sum(axis=0)

    def mean(name: str) -> NDArray[np.float64]:
        values = np.array([getattr(run, name) for run in bins], dtype=np.float64)  # NaN for None
        with np.errstate(invalid="ignore"):
            return np.asarray(np.nansum(counts * values, axis=0) / totals)

    return mean("confidence"), mean("accuracy"), totals


def _bins(group: Group) -> list[Calibration]:
    """The bins of a group's runs; none unless all of the runs that have some agree in their number."""
    found = [run.test_calibration for run in group.runs if run.test_calibration]
    return found if len({len(bins.counts) for bins in found}) == 1 else []


def calibration_panel(task: Task, rows: Sequence[Group], palette: Palette) -> Panel | None:
    """A reliability diagram of the best variants that have bins; None where none has."""
    groups = [group for group in most_important(rows) if _bins(group)]
    if not groups:
        return None
    with look():
        axes = panel_axes()
        axes.plot([0, 1], [0, 1], color="#888888", linewidth=0.8, linestyle=(0, (4, 2)))
        numbers = set()
        for group, name in zip(groups, labels(groups, rows), strict=True):
            confidence, accuracy, counts = pooled(_bins(group))
            numbers.add(len(counts))
            enough = counts >= _FEWEST
            own = palette.of(group)
            entry = f"{name}, ECE {100 * mean_std([run.test_ece for run in group.runs]).mean:.1f} %"
            (line,) = axes.plot(confidence[enough], accuracy[enough], own.colour, label=label_of(entry))
            line.set(marker=own.marker, markersize=4, linewidth=1.4)
        axes.set(xlim=(0, 1.02), ylim=(0, 1.02))
        axes.set(xlabel="mean confidence of the bin", ylabel="accuracy in the bin")
        caption = sentences(
            f"Test images at the best step in {' or '.join(map(str, sorted(numbers)))} equal bins of the top "
            "probability, over all seeds; below the diagonal a model is too confident. Bins with fewer than "
            f"{_FEWEST} images are left out. The ECE is the mean of the seeds'.",
            without_result(rows),
        )
        return to_panel(axes, title_of(task), caption, "Reliability diagram", height=3.6)
