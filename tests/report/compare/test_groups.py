from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from helpers.report_runs import MakeRun
from sslbench.cli.report_command import main
from sslbench.report.compare.comparison import Comparison, compare
from sslbench.report.compare.groups import (
    Group,
    best_by_validation,
    group_runs,
    mean_std,
    ranks,
)
from sslbench.report.read.conflicts import without_copies
from sslbench.report.read.find import MissingRun, find_runs
from sslbench.rundir.records import RunSummary

VAT = (0.951, 0.957, 0.943, 0.962)


def _groups() -> list[Group]:
    return group_runs(find_runs([Path("runs")]).runs)


def test_spread_is_the_sample_standard_deviation() -> None:
    found = mean_std(VAT)
    assert found.mean == pytest.approx(np.mean(VAT))
    assert found.std == pytest.approx(np.std(VAT, ddof=1))
    assert found.n == 4


def test_one_value_has_no_spread() -> None:
    assert mean_std([0.5]).std is None


def test_rows_of_a_task_stand_together(make_run: MakeRun) -> None:
    for place, (num_valid, steps) in enumerate([(1000, 500), (20, 2000), (1000, 2000)]):
        for algorithm, acc in (("vat", 0.9), ("supervised", 0.5)):
            changes = {"num_valid": num_valid, "steps": steps, "group": f"{algorithm}{place}"}
            make_run(algorithm, test_acc=acc - place / 10, **changes)
    tasks = [group.task for group in _groups()]
    assert tasks == sorted(tasks)
    assert [group.identity.algorithm for group in _groups()] == 3 * ["vat", "supervised"]


def test_sorted_by_dataset_labels_then_error(make_run: MakeRun) -> None:
    make_run("vat", dataset="svhn", test_acc=0.99)
    make_run("vat", num_labels=1000, test_acc=0.99)
    make_run("supervised", test_acc=0.8)
    make_run("vat", test_acc=0.9)
    make_run("vat", seed=1, test_acc=0.92)
    groups = _groups()
    assert [(g.number, g.identity.dataset, g.identity.num_labels, g.label, len(g.runs)) for g in groups] == [
        (1, "mnist", 100, "vat (kl)", 2),
        (2, "mnist", 100, "supervised", 1),
        (3, "mnist", 1000, "vat (kl)", 1),
        (4, "svhn", 100, "vat (kl)", 1),
    ]
    assert groups[0].test_error.mean == pytest.approx(0.09)


def test_a_copied_run_counts_once(make_run: MakeRun, tmp_path: Path) -> None:
    folder = make_run("vat", 0, 0.9)
    make_run("vat", 1, 0.8)
    shutil.copytree(folder, tmp_path / "runs" / "z-copy")
    runs, copies = without_copies(find_runs([tmp_path / "runs"]).runs)
    assert [run.folder.name for run in copies] == ["z-copy"]
    (group,) = group_runs(runs)
    assert len(group.runs) == 2


def _missing(seed: int, group: str = "vat-kl-mnist-100-4f3a", status: str = "failed") -> MissingRun:
    run = RunSummary(
        run_id=f"{group}-s{seed}", name="n", group=group, algorithm="vat", dataset="mnist", model="mlp",
        loss="kl", num_labels=100, num_valid=1000, seed=seed, split_seed=0, steps=2000,
    )  # fmt: skip
    return MissingRun(Path(f"runs/{group}-s{seed}"), status, "", run)


def test_missing_seeds_belong_to_their_group(make_run: MakeRun) -> None:
    make_run("vat", 0)
    make_run("vat", 2)
    (group,) = group_runs(find_runs([Path("runs")]).runs, [_missing(1), _missing(1, status="running")])
    assert group.seeds == "2 of 3"
    assert [cell.status for cell in group.missing] == ["failed"]


def test_a_cell_that_finished_in_another_folder_is_not_missing(make_run: MakeRun) -> None:
    make_run("vat", 0)
    (group,) = group_runs(find_runs([Path("runs")]).runs, [_missing(0)])
    assert group.seeds == "1"


def test_a_group_without_a_result_comes_last_and_has_no_rank(make_run: MakeRun) -> None:
    make_run("vat", 0, 0.1)
    groups = group_runs(find_runs([Path("runs")]).runs, [_missing(0, group="aaa"), _missing(1, group="aaa")])
    assert [group.seeds for group in groups] == ["1", "0 of 2"]
    assert groups[1].label == "vat (kl)"
    assert ranks(groups) == {1: 1}


def test_ranks_are_within_a_task_and_ties_share_them(make_run: MakeRun) -> None:
    # Both have a mean of 0.2, which the computer's numbers miss by different amounts.
    for seed, (a, b) in enumerate(((0.7, 0.8), (0.8, 0.8), (0.9, 0.8))):
        make_run("a", seed, a)
        make_run("b", seed, b)
        make_run("c", seed, 0.95)
        make_run("d", seed, 0.5)
        make_run("other_task", seed, 0.1, steps=1)
    found = _groups()
    by_name = {group.identity.algorithm: ranks(found)[group.number] for group in found}
    assert by_name == {"c": 1, "a": 2, "b": 2, "d": 4, "other_task": 1}


def test_validation_chooses_the_best_and_test_does_not(make_run: MakeRun) -> None:
    make_run("vat", group="one", test_acc=0.9, val_acc_best=0.8)
    make_run("vat", group="two", test_acc=0.8, val_acc_best=0.9)
    best = best_by_validation(_groups())
    assert best is not None
    assert best.identity.group == "two"
    assert best_by_validation([]) is None


def _comparison() -> Comparison:
    return compare(find_runs([Path("runs")]))


def _named(comparison: Comparison, numbers: Iterable[int]) -> set[str]:
    return {group.identity.group for group in comparison.groups if group.number in numbers}


def test_validation_chooses_among_the_variants_of_a_method(make_run: MakeRun) -> None:
    make_run("vat", group="kl", test_acc=0.9, val_acc_best=0.8)
    make_run("vat", group="mse", loss="mse", test_acc=0.8, val_acc_best=0.9)
    make_run("vat", group="one network", model="cnn", test_acc=0.85, val_acc_best=0.95)
    make_run("vat", group="another task", steps=500, val_acc_best=0.95)
    make_run("ict", group="alone", test_acc=0.7)
    found = _comparison()
    assert _named(found, found.selected) == {"mse"}
    assert set(found.selected.values()) == {2}
    # The kl variant has the lowest test error of all, and validation did not choose it.
    assert found.ranks[1] == 1
    assert _named(found, found.best) == {"one network"}


def test_who_lacks_seeds_is_first_of_nothing(make_run: MakeRun) -> None:
    for seed in range(3):
        make_run("supervised", seed, 0.7)
        make_run("vat", seed, 0.8)
        make_run("ict", seed, 0.8)
    make_run("lucky", 0, 0.9)
    found = _comparison()
    assert _named(found, found.incomplete_seeds) == {"lucky-kl-mnist-100-4f3a"}
    assert found.best == set()
    for seed in (1, 2):
        make_run("lucky", seed, 0.9)
    make_run("supervised", 3, 0.7)
    found = _comparison()
    assert found.incomplete_seeds == set()  # more seeds than most are no fault
    assert _named(found, found.best) == {"lucky-kl-mnist-100-4f3a"}


def test_other_labels_are_out_of_step(make_run: MakeRun) -> None:
    for seed in range(2):
        make_run("supervised", seed, 0.7)
        make_run("vat", seed, 0.8)
        make_run("ict", seed, 0.9, split_seed=seed + 5)
    found = _comparison()
    assert _named(found, found.incomplete_seeds) == {"ict-kl-mnist-100-4f3a"}


def test_one_row_is_first_of_nothing(make_run: MakeRun) -> None:
    make_run("vat")
    assert _comparison().best == set()


def test_of_copies_the_one_with_a_log_stays(make_run: MakeRun) -> None:
    whole = make_run("vat")
    copy = whole.with_name("a copy that comes first")
    copy.mkdir()
    shutil.copy(whole / "result.json", copy)
    found = _comparison()
    assert [run.folder for run in found.runs] == [whole]
    assert [run.folder for run in found.copies] == [copy]


def test_rows_that_share_nothing_are_all_out_of_step(make_run: MakeRun) -> None:
    for seed in range(3):
        make_run("vat", seed, 0.9)
        make_run("ict", seed + 3, 0.8)
    found = _comparison()
    assert found.incomplete_seeds == {1, 2}
    assert found.best == set()


def test_half_way_through_a_sweep_most_seeds_count(make_run: MakeRun) -> None:
    for count in range(1, 6):
        for seed in range(count):
            make_run(f"method_{count}", seed, 0.9)
    found = _comparison()
    assert {group.identity.algorithm for group in found.groups if group.number in found.incomplete_seeds} == {
        "method_1",
        "method_2",
    }


def test_a_tie_in_validation_is_not_decided_by_test_error(make_run: MakeRun) -> None:
    for better, worse in (("a", "b"), ("d", "c")):
        make_run("vat", group=better, test_acc=0.9, val_acc_best=0.8, steps=ord(better))
        make_run("vat", group=worse, test_acc=0.7, val_acc_best=0.8 + 1e-15, steps=ord(better))
    found = _comparison()
    assert _named(found, found.selected) == {"a", "c"}


def test_a_lucky_seed_is_not_chosen(make_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(3):
        make_run("supervised", seed, 0.7)
        make_run("vat", seed, 0.8, group="whole")
    make_run("vat", 2, 0.9, group="lucky")
    found = _comparison()
    assert _named(found, found.selected) == {"whole"}
    assert _named(found, found.best) == {"whole"}
    main(["runs"])
    assert "the only complete one" in capsys.readouterr().out
