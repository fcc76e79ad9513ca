"""What figures show and say of runs without a result."""

from __future__ import annotations

import re

import numpy as np
import pytest

from helpers.figure_runs import BINS, all_sections, compared, overview, words_of
from helpers.report_runs import MakeRun, identity, write_status
from sslbench.report.figures.drawing import look, panel_axes
from sslbench.report.figures.label_counts import _draw_crosses, _draw_line, _lines
from sslbench.report.figures.palette import Palette
from sslbench.report.figures.sections import Section


@pytest.fixture
def holes(make_run: MakeRun) -> MakeRun:
    """Of VAT nothing at 20 labels, half the seeds and a failed variant at 100; of Pi-model nothing at all."""
    for num_labels in (10, 20, 100):
        for seed in range(2):
            make_run("supervised", seed, 0.8, num_labels=num_labels, test_calibration=BINS)
    for seed in range(2):
        make_run("vat", seed, 0.9, num_labels=10, test_calibration=BINS)
        for algorithm, num_labels in (("vat", 20), ("pi_model", 20), ("pi_model", 1000)):
            group = f"{algorithm}-{num_labels}"
            known = identity(algorithm, seed, num_labels=num_labels, group=group)
            write_status(f"{group}-{seed}", "failed", known)
    make_run("vat", 0, 0.95, num_labels=100, test_calibration=BINS)
    write_status("partly", "failed", identity("vat", 1))
    write_status("variant", "failed", identity("vat", loss="mse", group="vat-mse"))
    return make_run


def test_missing_cells_of_a_map_are_marked(make_run: MakeRun) -> None:
    for seed in range(2):
        make_run("vat", seed, loss="kl")
    make_run("vat", 0, loss="mse", group="vat-mse-mnist-100-4f3a")
    write_status("a", "failed", identity(seed=1, loss="mse", group="vat-mse-mnist-100-4f3a"))
    write_status("b", "interrupted", identity(seed=0, loss="js", group="vat-js-mnist-100-4f3a"))
    for seed, status in enumerate(("failed", "running", "failed")):
        write_status(f"c{seed}", status, identity(seed=seed, loss="l1", group="vat-l1-mnist-100-4f3a"))
    (panel,) = all_sections()["map"].panels
    words = words_of(panel.svg)
    assert "n=1 of 2" in words
    assert "interrupted" in words
    assert "3 missing" in words
    assert not {"failed", "running"} & set(words)
    assert "<pattern" in panel.svg  # the hatching
    assert {"js", "kl", "mse"} <= set(words)


def test_a_map_that_is_all_missing(make_run: MakeRun) -> None:
    assert make_run  # for its working directory
    for loss in ("kl", "mse"):
        write_status(loss, "failed", identity(loss=loss, group=f"vat-{loss}-mnist-100-4f3a"))
    sections = all_sections()
    assert words_of(sections["map"].panels[0].svg).count("failed") == 2
    assert [key for key, section in sections.items() if section.panels] == ["map"]


def test_a_variant_of_a_cell_that_failed_wholly_leaves_a_trace(make_run: MakeRun) -> None:
    make_run("vat", loss="kl")
    make_run("vat", loss="mse")
    (panel,) = all_sections()["map"].panels
    words = words_of(panel.svg)
    assert "#d55e00" not in panel.svg
    write_status("dead", "failed", identity(loss="kl", group="vat-kl with another eps"))
    (panel,) = all_sections()["map"].panels
    assert words_of(panel.svg) == words  # the corner says it: words would not fit into the cell
    assert "#d55e00" in panel.svg
    assert "Orange corner" in panel.caption


def test_a_line_is_broken_where_a_method_has_no_result(holes: MakeRun) -> None:
    (panel,) = all_sections()["labels"].panels
    assert "Hollow: some of its seeds are missing." in panel.caption
    assert "Cross: planned, without a result." in panel.caption
    assert "1 configuration has no result and is not drawn." in panel.caption
    assert {"10", "20", "100", "1000"} <= set(words_of(panel.svg))
    groups = compared().groups
    lines = _lines(groups)
    palette = Palette(groups)
    with look():
        axes = panel_axes()
        own = palette.of(next(group for group in groups if group.identity.algorithm == "vat"))
        _draw_line(axes, lines["vat"], own, "vat")
        drawn = axes.lines[0]
        np.testing.assert_array_equal(drawn.get_xdata(), [10, 20, 100])
        np.testing.assert_allclose(drawn.get_ydata(orig=False), [90, np.nan, 95])
        # Filled at 10 labels, hollow over it at 100.
        ((x, y),) = [line.get_xydata()[0] for line in axes.lines if line.get_markerfacecolor() == "white"]
        assert (x, y) == (100, pytest.approx(95))
        count = len(axes.lines)
        styles = {group.identity.algorithm: palette.of(group) for group in groups}
        _draw_crosses(axes, lines, styles)
        crosses = axes.lines[count:]
    assert [(line.get_xdata()[0], line.get_color()) for line in crosses] == [
        (20, styles["pi_model"].colour),
        (1000, styles["pi_model"].colour),
        (20, styles["vat"].colour),
    ]
    heights = [line.get_transform().transform(line.get_xydata()[0])[1] for line in crosses]
    assert heights[0] == heights[1] < heights[2] - 5  # at 20 labels one above the other
    axes.get_ylim()  # has the limits worked out
    lowest = axes.transData.transform((10, 90))[1]
    assert heights[2] < lowest


def test_what_is_drawn_whole_has_no_count(
    grid_sections: dict[str, Section],
) -> None:
    for section in grid_sections.values():
        for panel in section.panels:
            assert not re.search("no result|no training time", panel.caption)


def test_figures_say_what_they_do_not_draw(holes: MakeRun) -> None:
    sections = all_sections()
    captions = {key: [panel.caption for panel in section.panels] for key, section in sections.items()}
    # Tasks of 10, 20, 100 and 1000 labels; that of 1000 has no result, that of 20 one.
    one = "1 configuration has no result and is not drawn."
    two = "2 configurations have no result and are not drawn."
    assert [one in text for text in captions["seconds"]] == [False, True]
    assert [one in text for text in captions["calibration"]] == [False, False, True]
    assert [two in text for text in captions["calibration"]] == [False, True, False]
    figure = overview()
    assert figure.count(f"<!-- {one} -->") == 1
    assert figure.count(f"<!-- {two} -->") == 1
    assert "<!-- 1 more task is not drawn -->" in figure


def test_the_marker_of_a_legend_is_filled(make_run: MakeRun) -> None:
    make_run("vat", 0, 0.95, group="one")
    write_status("dead", "failed", identity(seed=1, group="one"))
    make_run("vat", 0, 0.9, group="two", train_seconds=0.0)
    make_run("ict", 0, 0.8, group="three")
    (panel,) = all_sections()["seconds"].panels
    assert "1 configuration has no training time and is not drawn." in panel.caption
    fills = re.findall(r'<use [^>]*style="fill: (#[0-9a-f]{6});[^"]*stroke: #d55e00', panel.svg)
    assert fills == ["#ffffff", "#d55e00"]  # the point, and the legend


def test_configurations_without_curves_are_counted(make_run: MakeRun) -> None:
    make_run("vat")
    make_run("ict")
    assert all_sections()["curves"].panels[0].caption.startswith("2 of 2 configurations")
    (make_run("pi_model") / "metrics.jsonl").unlink()
    write_status("dead", "failed", identity("ladder"))
    caption = all_sections()["curves"].panels[0].caption
    assert caption.endswith(" 2 configurations have no curves and are not drawn.")
