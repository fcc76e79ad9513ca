"""What the tests of the figures share."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from helpers.report_runs import MakeRun
from sslbench.report.compare.comparison import Comparison, compare
from sslbench.report.compare.curves import gather_curves
from sslbench.report.figures.figure_file import render_figure
from sslbench.report.figures.sections import Section, figure_sections
from sslbench.report.read.find import find_runs

SVG = "{http://www.w3.org/2000/svg}"
BINS = {"counts": [0, 40, 60], "confidence": [None, 0.5, 0.9], "accuracy": [None, 0.25, 0.8]}


def compared(runs: Path = Path("runs")) -> Comparison:
    return compare(find_runs([runs]))


def all_sections(runs: Path = Path("runs")) -> dict[str, Section]:
    comparison = compared(runs)
    curves, _ = gather_curves(comparison.groups)
    return {section.key: section for section in figure_sections(comparison, curves)}


def words_of(svg: str) -> list[str]:
    return ["".join(text.itertext()) for text in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def overview() -> str:
    groups = compared().groups
    return render_figure(groups, gather_curves(groups)[0], title="Results", file_format="svg").decode()


def make_grid(make_run: MakeRun) -> MakeRun:
    """Two methods with two distances and a baseline, at two numbers of labels, with three seeds."""
    for num_labels in (100, 1000):
        for seed in range(3):
            for algorithm in ("vat", "ict"):
                for loss in ("kl", "mse"):
                    make_run(
                        algorithm,
                        seed,
                        0.9 + 0.01 * seed,
                        loss=loss,
                        num_labels=num_labels,
                        test_calibration=BINS,
                    )
            make_run("supervised", seed, 0.8, num_labels=num_labels, test_calibration=BINS)
    return make_run


def make_methods(make_run: MakeRun, count: int) -> None:
    """So many methods, each better than the one before."""
    for number in range(count):
        make_run(f"m{number:02}", 0, 0.5 + number / 100)
