"""The figure of ``--figure``. Its text is outlines; matplotlib leaves what it says in comments."""

from __future__ import annotations

import re

import pytest

from helpers.figure_runs import make_grid, make_methods, overview
from helpers.report_runs import MakeRun
from sslbench.report.figures import figure_file
from sslbench.report.figures.palette import BASELINE_COLOUR


def test_the_figure_has_a_panel_for_each_task(make_run: MakeRun) -> None:
    make_grid(make_run)
    make_run("vat", 0, 0.9, group="long", steps=24_000)
    figure = overview()
    for num_labels, steps in ((100, 2000), (1000, 2000), (100, 24_000)):
        assert f"<!-- mnist, {num_labels} labels, 1000 validation images, {steps} steps -->" in figure
    assert figure.count("<!-- training step -->") == 3
    assert figure.count("<!-- Best by validation accuracy: 3 of 5 configurations. -->") == 2
    assert len(re.findall(r"<!-- vat \((kl|mse)\), row \d+, 3 seeds -->", figure)) == 2
    assert "<!-- vat (kl), 1 seed -->" in figure
    assert BASELINE_COLOUR.lower() in figure
    assert "not drawn" not in figure


def test_the_figure_has_the_eight_best_algorithms(make_run: MakeRun) -> None:
    make_run("supervised", 0, 0.1)
    make_methods(make_run, 11)
    figure = overview()
    shown = [f"<!-- m{number:02} (kl), 1 seed -->" in figure for number in range(11)]
    assert shown == 3 * [False] + 8 * [True]
    assert "<!-- supervised, 1 seed -->" in figure
    assert "<!-- Best by validation accuracy: 9 of 12 configurations. -->" in figure


def test_a_figure_of_many_tasks_has_the_first(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    assert figure_file._MOST_PANELS == 24
    monkeypatch.setattr(figure_file, "_MOST_PANELS", 3)
    for number in range(5):
        make_run("vat", 0, 0.9, num_labels=number + 200)
    figure = overview()
    assert figure.count("<!-- training step -->") == 3
    assert "<!-- 2 more tasks are not drawn -->" in figure
