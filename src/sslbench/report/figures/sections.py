"""The figures of the page, kind by kind; a kind that would show nothing has a sentence instead."""

from collections.abc import Mapping
from dataclasses import dataclass

from sslbench.report.compare.comparison import Comparison
from sslbench.report.compare.curves import Curve
from sslbench.report.compare.groups import by_task
from sslbench.report.figures.calibration import calibration_panel
from sslbench.report.figures.confusion import confusion_panel
from sslbench.report.figures.curve_panels import RISE, curve_panels
from sslbench.report.figures.drawing import Panel
from sslbench.report.figures.heat_map import heat_map_panel
from sslbench.report.figures.label_counts import label_panels
from sslbench.report.figures.palette import Palette
from sslbench.report.figures.training_time import seconds_panel


@dataclass(frozen=True)
class Section:
    """The figures of one kind.

    Attributes:
        key: of the section in the page's addresses.
        name: in the list of sections.
        title: its heading.
        text: what the figures show; or, where there is none, why.
        panels: the figures.
    """

    key: str
    name: str
    title: str
    text: str
    panels: list[Panel]


def figure_sections(comparison: Comparison, curves: Mapping[int, Curve]) -> list[Section]:
    """Draw all figures; `curves` are by the number of the group."""
    palette = Palette(comparison.groups)
    tasks = list(by_task(comparison.groups).items())
    drawn = [panel for task, groups in tasks for panel in curve_panels(task, groups, curves, palette)]
    by_labels = label_panels(comparison.groups, palette)
    times = [seconds_panel(task, groups, palette) for task, groups in tasks]
    maps = [heat_map_panel(task, groups) for task, groups in tasks]
    confusions = [confusion_panel(task, groups) for task, groups in tasks]
    reliability = [calibration_panel(task, groups, palette) for task, groups in tasks]
    kinds = [
        (
            "curves",
            "Curves",
            "Accuracy over training steps",
            "Solid: test, mean over seeds; band: lowest to highest seed; dashed: validation, mean. The "
            f"vertical axis may leave out the rise in the first {RISE:.0%} of the steps.",
            drawn,
            "No curves are drawn: no run has a log that can be read.",
        ),
        (
            "labels",
            "Labels",
            "Accuracy against the number of labels",
            "Each panel has one data set, model, number of validation images and length.",
            by_labels,
            "Accuracy is not drawn against the number of labels: no algorithm has results with several "
            "numbers of labels and the same data set, model, validation images and steps.",
        ),
        (
            "seconds",
            "Time",
            "Accuracy against training time",
            "Wall-clock seconds of training, without evaluation. They compare algorithms only where the runs "
            "had the same machine to themselves.",
            [panel for panel in times if panel],
            "Accuracy is not drawn against training time: no two configurations with results share a data "
            "set, labels, validation images and steps.",
        ),
        (
            "map",
            "Distances",
            "Algorithms and distances",
            "Mean test error of each algorithm with each distance between predictions.",
            [panel for panel in maps if panel],
            "There is no map of algorithms and distances: no algorithm was run with two on the same task.",
        ),
        (
            "classes",
            "Classes",
            "Which classes are confused",
            "The best configuration of each task by validation accuracy.",
            [panel for panel in confusions if panel],
            "No confusion matrix is drawn: no run has one.",
        ),
        (
            "calibration",
            "Calibration",
            "Calibration",
            "Whether a model is as often right as it is confident, on the test images at the best step.",
            [panel for panel in reliability if panel],
            "Calibration is not drawn: no run has the bins of a reliability diagram.",
        ),
    ]
    return [
        Section(key, name, title, text if panels else nothing, panels)
        for key, name, title, text, panels, nothing in kinds
    ]
