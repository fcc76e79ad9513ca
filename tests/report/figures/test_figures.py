"""Figures, looked at through the text, the paths and the identifiers of their SVG."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.axes import Axes

from helpers.figure_runs import BINS, SVG, all_sections, compared, make_methods, overview, words_of
from helpers.report_runs import MakeRun, identity, metrics, write_status
from sslbench.report.compare.curves import Curve, gather_curves
from sslbench.report.compare.groups import Group
from sslbench.report.figures.calibration import pooled
from sslbench.report.figures.curve_panels import draw_curves
from sslbench.report.figures.drawing import look, panel_axes, to_panel
from sslbench.report.figures.palette import MOST_CURVES, Palette, best_variants, labels, style
from sslbench.report.figures.sections import Section
from sslbench.rundir.records import Calibration


def test_every_kind_of_figure_is_drawn(grid_sections: dict[str, Section]) -> None:
    sections = grid_sections
    assert {key: len(section.panels) for key, section in sections.items()} == {
        "curves": 6,  # for each number of labels all methods, and two with variants
        "labels": 1,
        "seconds": 2,
        "map": 2,
        "classes": 0,
        "calibration": 2,
    }
    words = words_of(sections["labels"].panels[0].svg)
    assert {"100", "1000", "labelled images", "vat", "ict", "supervised"} <= set(words)
    assert {"vat (kl), 3 seeds", "vat (mse), 3 seeds", "supervised, 3 seeds"} <= set(
        words_of(sections["curves"].panels[2].svg)
    )
    assert "accuracy in the bin" in words_of(sections["calibration"].panels[0].svg)


def test_what_would_show_nothing_is_a_sentence(make_run: MakeRun) -> None:
    (make_run("vat") / "metrics.jsonl").unlink()
    sections = all_sections()
    for key in ("curves", "labels", "seconds", "map", "calibration"):
        assert sections[key].panels == []
        assert re.search(r"\b(no|not)\b", sections[key].text.lower())
        assert sections[key].text.count(".") == 1


def test_without_bins_there_is_no_reliability_diagram(make_run: MakeRun) -> None:
    make_run("vat", test_calibration=BINS)
    make_run("supervised")
    [panel] = all_sections()["calibration"].panels
    assert "accuracy in the bin" in words_of(panel.svg)
    assert "supervised" not in words_of(panel.svg)


def test_a_figure_is_an_image_of_its_own_that_fetches_nothing(grid_sections: dict[str, Section]) -> None:
    for section in grid_sections.values():
        for panel in section.panels:
            root = ElementTree.fromstring(panel.svg)
            assert root.tag == f"{SVG}svg"
            assert not re.search(r'(?:href|src)="(?!#|data:image/png)|url\([^#]', panel.svg)
            kind, _, content = panel.address.partition(",")
            assert kind == "data:image/svg+xml;base64"
            assert base64.b64decode(content).decode() == panel.svg
            assert "#ffffff" in panel.svg


def test_the_same_numbers_give_the_same_figures(grid: Path, grid_sections: dict[str, Section]) -> None:
    assert all_sections(grid) == grid_sections


def test_a_name_is_text_and_no_formula(make_run: MakeRun) -> None:
    for place, name in enumerate(
        ("_hidden", "$\\frac$", "<b>&amp;", "x" * 4000, "\N{SNOWMAN}\N{GRINNING FACE}")
    ):
        for loss in ("kl", "mse"):
            for num_labels in (100, 1000):
                make_run(name[:50], loss=loss, num_labels=num_labels, group=f"{place}{loss}{num_labels}")
    sections = all_sections()
    words = [
        word for section in sections.values() for panel in section.panels for word in words_of(panel.svg)
    ]
    assert any(word.strip().startswith("_hidden") for word in words)
    assert "$\\frac$ (kl), 1 seed" in words
    assert "<b>&amp; (kl), 1 seed" in words
    assert max(map(len, words)) < 60


def test_bins_are_pooled_over_runs() -> None:
    first = Calibration((0, 10, 30), (None, 0.5, 0.9), (None, 0.4, 0.8))
    second = Calibration((0, 30, 0), (None, 0.6, None), (None, 0.8, None))
    confidence, accuracy, counts = pooled([first, second])
    np.testing.assert_array_equal(counts, [0, 40, 30])
    np.testing.assert_allclose(confidence, [np.nan, (10 * 0.5 + 30 * 0.6) / 40, 0.9])
    np.testing.assert_allclose(accuracy, [np.nan, (10 * 0.4 + 30 * 0.8) / 40, 0.8])


def test_long_curves_are_thinned_and_keep_their_ends(make_run: MakeRun) -> None:
    folder = make_run(steps=300_000, test_acc_last=0.9)
    (folder / "metrics.jsonl").write_text(metrics(list(np.linspace(0.1, 0.9, 3000)), 300_000))
    axes, curve = _drawn()
    assert len(curve.steps) == 3000
    line = axes.lines[0]
    assert len(line.get_xdata()) == 120
    assert (line.get_xdata()[0], line.get_xdata()[-1]) == (100, 300_000)
    # The rise in the first quarter is not needed to tell methods apart.
    assert axes.get_ylim()[0] > 20


@pytest.mark.parametrize("evaluations", [1, 2, 10, 60, 120])
def test_a_marker_at_every_evaluation(make_run: MakeRun, evaluations: int) -> None:
    accs = list(np.linspace(0.5, 0.9, evaluations))
    (make_run(test_acc_last=accs[-1]) / "metrics.jsonl").write_text(metrics(accs))
    axes, _ = _drawn()
    axes.figure.canvas.draw()
    start, every = axes.lines[0].get_markevery()
    marked = range(evaluations)[start::every]
    assert marked[-1] == evaluations - 1
    assert len(marked) == min(evaluations, 60)
    (panel,) = all_sections()["curves"].panels
    drawn = re.findall(f"<use [^>]*fill: {style(0).colour.lower()}; stroke", panel.svg)
    assert len(drawn) == len(marked) + 1  # and the legend's


def _drawn() -> tuple[Axes, Curve]:
    """The axes with the curve of the one group."""
    groups = compared().groups
    curves = gather_curves(groups)[0]
    with look():
        axes = panel_axes()
        draw_curves(axes, [(groups[0], style(0))], groups, curves)
    return axes, curves[1]


def _groups(make_run: MakeRun, count: int) -> list[Group]:
    make_methods(make_run, count)
    return compared().groups


def test_a_panel_has_the_eight_best_methods(make_run: MakeRun) -> None:
    make_run("supervised", 0, 0.1)
    _groups(make_run, 11)
    panels = all_sections()["curves"].panels
    assert len(panels) == 4  # all, and one for each of the three that did not fit
    first = " ".join(words_of(panels[0].svg))
    assert [f"m{number:02}" in first for number in range(11)] == 3 * [False] + 8 * [True]
    assert "supervised" in first
    assert "9 of 12 configurations" in panels[0].caption


def test_methods_keep_their_looks_and_styles_differ(make_run: MakeRun) -> None:
    groups = _groups(make_run, 12)
    palette = Palette(groups)
    looks = {group.identity.algorithm: palette.of(group) for group in groups}
    assert len(set(looks.values())) == 12
    again = Palette(reversed(groups))
    assert {group.identity.algorithm: again.of(group) for group in groups} == looks
    assert len({style(place) for place in range(30)}) == 30


def test_networks_of_a_method_look_different_and_are_named(make_run: MakeRun) -> None:
    for algorithm in ("vat", "supervised"):
        for model, seconds in (("cnn", 10.0), ("wrn", 20.0)):
            make_run(algorithm, model=model, group=f"{algorithm}{model}", train_seconds=seconds,
                     test_calibration=BINS)  # fmt: skip
    groups = compared().groups
    palette = Palette(groups)
    assert len({palette.of(group) for group in groups}) == 4
    colours = {group.identity.algorithm: palette.of(group).colour for group in groups}
    assert all(palette.of(group).colour == colours[group.identity.algorithm] for group in groups)
    sections = all_sections()
    for key in ("curves", "seconds", "calibration"):
        words = " ".join(words_of(sections[key].panels[0].svg))
        for name in ("vat", "supervised"):
            assert re.search(rf"{name}( \(kl\))?, cnn", words), key
            assert re.search(rf"{name}( \(kl\))?, wrn", words), key


@pytest.mark.parametrize(
    ("names", "columns"), [(["vat", "ict"], 2), (["x" * 37, "ict"], 1), (["vat", "ict", "pi_model"], 3)]
)
def test_long_names_leave_a_legend_fewer_columns(names: list[str], columns: int) -> None:
    with look():
        axes = panel_axes()
        for name in names:
            axes.plot([0, 1], [0, 1], label=name)
        to_panel(axes, "", "", "", columns=3 if len(names) == 3 else 2)
        assert axes.figure.legends[0]._ncols == columns


def test_validation_curves_stay_within_the_axes(make_run: MakeRun) -> None:
    lines = [{"step": 200 * i, "val/acc": 0.3, "test/acc": 0.9} for i in range(11)]
    (make_run(test_acc_last=0.9) / "metrics.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in lines)
    )
    axes, _ = _drawn()
    low, high = axes.get_ylim()
    assert low < 30 < 90 < high


def test_legends_tell_equal_names_apart(make_run: MakeRun) -> None:
    make_run("vat", group="one", test_acc=0.9)
    make_run("vat", group="two", test_acc=0.8)
    make_run("ict", group="three", test_acc=0.7)
    groups = compared().groups
    assert labels(groups, groups) == ["vat (kl), row 1", "vat (kl), row 2", "ict (kl)"]


def test_a_variant_that_stands_for_others_has_its_row(make_run: MakeRun) -> None:
    make_run("vat", group="one", test_acc=0.9, test_calibration=BINS)
    make_run("vat", group="two", test_acc=0.8, test_calibration=BINS)
    make_run("vat", group="another network", model="wrn", test_acc=0.75, test_calibration=BINS)
    make_run("ict", group="three", test_acc=0.7, test_calibration=BINS)
    write_status("dead", "failed", identity("ict", loss="mse", group="four"))
    rows = [replace(group, settings="lr=0.1" if group.number < 3 else "") for group in compared().groups]
    assert labels([rows[1], rows[3]], rows) == ["vat (kl), lr=0.1, row 2", "ict (kl), row 4"]
    assert labels([rows[3]], rows[:4]) == ["ict (kl)"]
    assert labels([rows[2]], rows) == ["vat (kl)"]
    sections = all_sections()
    for key in ("curves", "calibration"):
        words = " ".join(words_of(sections[key].panels[0].svg))
        assert "vat (kl), mlp, row 1" in words, key
        assert "ict (kl), mlp, row 4" in words, key


def test_the_best_variants_are_those_of_validation(make_run: MakeRun) -> None:
    make_run("vat", group="one", test_acc=0.95, val_acc_best=0.5)
    make_run("vat", group="two", test_acc=0.6, val_acc_best=0.7)
    make_run("vat", group="three", model="wrn", val_acc_best=0.6)
    assert [group.identity.group for group in best_variants(compared().groups)] == ["two", "three"]


def test_captions_of_calibration_have_the_number_of_bins(make_run: MakeRun) -> None:
    make_run("vat", test_calibration=BINS)
    assert "in 3 equal bins" in all_sections()["calibration"].panels[0].caption
    make_run("ict", test_calibration={name: [*values, *values] for name, values in BINS.items()})
    assert "in 3 or 6 equal bins" in all_sections()["calibration"].panels[0].caption


def test_titles_are_short_whatever_the_data_set(make_run: MakeRun) -> None:
    dataset = "d" * 4000
    for number, loss in enumerate(("kl", "mse")):
        for num_labels in (10, 100):
            make_run(loss=loss, dataset=dataset, num_labels=num_labels, group=f"{number}{num_labels}",
                     test_confusion=((3, 1), (0, 4)),
                     test_calibration=BINS if num_labels == 10 else None)  # fmt: skip
    sections = all_sections()
    assert all(section.panels for section in sections.values())
    for section in sections.values():
        for panel in section.panels:
            assert len(panel.title) < 120
            assert "d" * 50 not in panel.svg
    assert "d" * 50 not in overview()


def test_algorithms_beyond_the_most_are_counted_against_labels(make_run: MakeRun) -> None:
    for labels_ in (20, 100):
        for number in range(11):
            make_run(f"m{number:02}", 0, 0.5 + number / 100, num_labels=labels_)
        make_run("supervised", 0, 0.4, num_labels=labels_)
    [panel] = all_sections()["labels"].panels
    assert f"The best {MOST_CURVES} algorithms; {11 - MOST_CURVES} more are in the table." in panel.caption
    assert {"supervised", "m10", "m03"} <= set(words_of(panel.svg))
    assert "m02" not in words_of(panel.svg)


def test_times_of_several_devices_are_not_comparable(make_run: MakeRun) -> None:
    make_run("vat", device="cpu")
    make_run("ict", device="cpu")
    [panel] = all_sections()["seconds"].panels
    assert "device" not in panel.caption
    make_run("supervised", device="NVIDIA H100")
    [panel] = all_sections()["seconds"].panels
    assert "The times are from 2 kinds of device and not comparable throughout." in panel.caption
