from __future__ import annotations

import json
from typing import Any

import pytest

from helpers.figure_runs import all_sections, words_of
from helpers.report_runs import MakeRun

FIRST = ((8, 2), (1, 4))
SECOND = ((6, 4), (0, 5))


@pytest.fixture
def matrix(make_run: MakeRun) -> Any:
    for seed, (confusion, balanced) in enumerate(((FIRST, 0.8), (SECOND, 0.8))):
        run = make_run(
            "vat", seed=seed, test_confusion=confusion, test_balanced_acc=balanced, val_acc_best=0.9
        )
        (run / "model.json").write_text(json.dumps({"class_names": ["cat", "<dog>"]}))
    make_run("ict", test_confusion=((1, 9), (9, 1)), val_acc_best=0.5)
    [panel] = all_sections()["classes"].panels
    return panel


def test_the_matrix_is_the_sum_over_the_seeds_of_the_first_by_validation(matrix: Any) -> None:
    words = words_of(matrix.svg)
    assert words.count("cat") == words.count("<dog>") == 2
    assert {"70.0", "30.0", "10.0", "90.0"} <= set(words)
    assert "vat (kl), the first by validation accuracy" in matrix.caption
    assert "over 2 runs. Balanced accuracy: 80.00 %." in matrix.caption


def test_runs_without_a_matrix_have_a_sentence(make_run: MakeRun) -> None:
    make_run("vat")
    section = all_sections()["classes"]
    assert section.panels == []
    assert section.text == "No confusion matrix is drawn: no run has one."
