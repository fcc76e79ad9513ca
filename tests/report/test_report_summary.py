from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from report_runs import MakeRun
from scipy import stats

from sslbench.errors import UserError
from sslbench.report import Group, commands, differences_to_supervised, find_runs, group_runs, spread
from sslbench.report.summary import without_copies

VAT = (0.951, 0.957, 0.943, 0.962)
SUPERVISED = (0.912, 0.921, 0.899, 0.914)


def _groups() -> list[Group]:
    return group_runs(find_runs([Path("runs")])[0])


def test_spread_is_the_sample_standard_deviation() -> None:
    found = spread(VAT)
    assert found.mean == pytest.approx(np.mean(VAT))
    assert found.std == pytest.approx(np.std(VAT, ddof=1))
    assert found.n == 4


def test_one_value_has_no_spread() -> None:
    assert spread([0.5]).std is None


def test_sorted_by_dataset_labels_then_error(make_run: MakeRun) -> None:
    make_run("vat", dataset="svhn", test_acc=0.99)
    make_run("vat", num_labels=1000, test_acc=0.99)
    make_run("supervised", test_acc=0.8)
    make_run("vat", test_acc=0.9)
    make_run("vat", seed=1, test_acc=0.92)
    groups = _groups()
    assert [(g.number, g.head.dataset, g.head.num_labels, g.label, len(g.runs)) for g in groups] == [
        (1, "mnist", 100, "vat (kl)", 2),
        (2, "mnist", 100, "supervised", 1),
        (3, "mnist", 1000, "vat (kl)", 1),
        (4, "svhn", 100, "vat (kl)", 1),
    ]
    assert groups[0].test_error.mean == pytest.approx(0.09)


def test_a_group_differs_in_its_seeds_only(make_run: MakeRun) -> None:
    make_run(seed=0)
    make_run(seed=1, steps=500)
    with pytest.raises(UserError, match=r"has steps 2000 in .* and 500 in"):
        _groups()


def test_the_same_seed_twice_is_refused(make_run: MakeRun) -> None:
    folder = make_run(seed=0)
    folder.with_name("copy").mkdir()
    (folder.with_name("copy") / "result.json").write_bytes((folder / "result.json").read_bytes())
    with pytest.raises(UserError, match="same seed 0 and split_seed 0"):
        _groups()


def test_paired_difference(make_run: MakeRun) -> None:
    for seed, (vat, supervised) in enumerate(zip(VAT, SUPERVISED, strict=True)):
        make_run("vat", seed, vat)
        make_run("supervised", seed, supervised)
    ((difference,), alone) = differences_to_supervised(_groups())
    # With t = mean / standard error, scipy's statistic gives the standard error back.
    t = stats.ttest_rel(1 - np.array(VAT), 1 - np.array(SUPERVISED)).statistic
    assert difference.paired
    assert difference.mean == pytest.approx(np.mean(SUPERVISED) - np.mean(VAT))
    assert difference.standard_error == pytest.approx(difference.mean / t)
    assert alone == []


def test_pairs_follow_the_split_not_the_order(make_run: MakeRun) -> None:
    for seed, split in ((0, 5), (1, 4)):
        make_run("vat", seed, VAT[seed], split_seed=split)
        make_run("supervised", seed, SUPERVISED[seed], split_seed=split)
    ((difference,), _) = differences_to_supervised(_groups())
    assert difference.paired
    # The same splits, but drawn with the other seed: the runs are no pairs any more.
    make_run("pi_model", 0, 0.93, split_seed=4)
    make_run("pi_model", 1, 0.94, split_seed=5)
    by_name = {d.method.head.algorithm: d for d in differences_to_supervised(_groups())[0]}
    assert by_name["vat"].paired
    assert not by_name["pi_model"].paired


def test_unpaired_difference_is_welch(make_run: MakeRun) -> None:
    for seed, acc in enumerate(VAT[:3]):
        make_run("vat", seed, acc)
    for seed, acc in enumerate(SUPERVISED):
        make_run("supervised", seed, acc)
    ((difference,), _) = differences_to_supervised(_groups())
    t = stats.ttest_ind(1 - np.array(VAT[:3]), 1 - np.array(SUPERVISED), equal_var=False).statistic
    assert not difference.paired
    assert difference.standard_error == pytest.approx(difference.mean / t)


@pytest.mark.parametrize("supervised_seeds", [(0,), (0, 1)])
def test_one_run_gives_no_standard_error(make_run: MakeRun, supervised_seeds: tuple[int, ...]) -> None:
    make_run("vat", 0, 0.95)
    for seed in supervised_seeds:
        make_run("supervised", seed, 0.9)
    ((difference,), _) = differences_to_supervised(_groups())
    assert difference.standard_error is None
    assert difference.mean == pytest.approx(-0.05)


@pytest.mark.parametrize(
    "change", [{"split_seed": 1}, {"steps": 1000}, {"num_labels": 1000}, {"dataset": "svhn"}]
)
def test_nothing_to_compare_with(make_run: MakeRun, change: dict[str, object]) -> None:
    make_run("vat")
    make_run("supervised", **change)
    differences, alone = differences_to_supervised(_groups())
    assert differences == []
    assert [group.head.algorithm for group in alone] == ["vat"]


def test_the_own_model_comes_first(make_run: MakeRun) -> None:
    make_run("vat", model="cnn")
    make_run("ladder", model="ladder_mlp")
    make_run("supervised", test_acc=0.8, model="cnn", group="supervised-cnn")
    make_run("supervised", test_acc=0.7, model="mlp", group="supervised-mlp")
    differences, _ = differences_to_supervised(_groups())
    compared = {(d.method.head.algorithm, d.baseline.head.model) for d in differences}
    assert compared == {("vat", "cnn"), ("ladder", "cnn"), ("ladder", "mlp")}


def _commands(make_run: MakeRun, *runs: tuple[int, int, list[str]]) -> list[str]:
    for seed, split_seed, overrides in runs:
        make_run("vat", seed, split_seed=split_seed, overrides=overrides)
    (group,) = _groups()
    return commands(group)


def test_command_sweeps_sorted_seeds(make_run: MakeRun) -> None:
    runs = [(seed, 0, ["experiment=seeds/vat_mnist", f"seed={seed}"]) for seed in (10, 2, 0)]
    assert _commands(make_run, *runs) == ["sslbench -m experiment=seeds/vat_mnist seed=0,2,10"]


def test_command_of_one_seed(make_run: MakeRun) -> None:
    assert _commands(make_run, (0, 0, ["loss=kl"])) == ["sslbench loss=kl seed=0"]


def test_command_is_quoted_and_drops_what_belongs_to_one_run(make_run: MakeRun) -> None:
    typed = ["++seed=1", "model.widths=[10,20]", "run_dir=runs/a", "data_root=/data", "+note='it is'"]
    (line,) = _commands(make_run, (1, 0, typed))
    assert line == """sslbench 'model.widths=[10,20]' '+note='"'"'it is'"'"'' seed=1"""


def test_command_lists_split_seeds_as_a_grid(make_run: MakeRun) -> None:
    runs = [(seed, split, [f"seed={seed}", f"split_seed={split}"]) for split in (1, 0) for seed in (0, 1)]
    assert _commands(make_run, *runs) == ["sslbench -m split_seed=0,1 seed=0,1"]


def test_command_runs_no_more_than_the_group_holds(make_run: MakeRun) -> None:
    runs = [(seed, seed + 3, [f"seed={seed}", f"split_seed={seed + 3}"]) for seed in (0, 1)]
    assert _commands(make_run, *runs) == ["sslbench split_seed=3 seed=0", "sslbench split_seed=4 seed=1"]


def test_command_says_once_that_each_split_seed_is_the_seed(make_run: MakeRun) -> None:
    runs = [(seed, seed, ["loss=kl", f"seed={seed}", "split_seed=${seed}"]) for seed in (0, 1)]
    assert _commands(make_run, *runs) == ["sslbench -m loss=kl 'split_seed=${seed}' seed=0,1"]


def test_command_keeps_a_typed_split_seed(make_run: MakeRun) -> None:
    assert _commands(make_run, (0, 7, ["split_seed=7"])) == ["sslbench split_seed=7 seed=0"]


def test_one_command_for_each_way_of_typing(make_run: MakeRun) -> None:
    runs = [(0, 0, ["device=cpu"]), (1, 0, ["device=cuda"]), (2, 0, ["device=cuda"])]
    assert _commands(make_run, *runs) == ["sslbench device=cpu seed=0", "sslbench -m device=cuda seed=1,2"]


def test_standard_error_of_equal_gaps_is_zero(make_run: MakeRun) -> None:
    for seed in (0, 1):
        make_run("vat", seed, 0.75)
        make_run("supervised", seed, 0.5)
    ((difference,), _) = differences_to_supervised(_groups())
    assert difference.standard_error == 0.0
    assert difference.mean == -0.25


def test_a_copied_run_counts_once(make_run: MakeRun, tmp_path: Path) -> None:
    folder = make_run("vat", 0, 0.9)
    make_run("vat", 1, 0.8)
    shutil.copytree(folder, tmp_path / "runs" / "z-copy")
    runs, copies = without_copies(find_runs([tmp_path / "runs"])[0])
    assert [run.folder.name for run in copies] == ["z-copy"]
    (group,) = group_runs(runs)
    assert len(group.runs) == 2


def test_precisions_are_not_averaged(make_run: MakeRun) -> None:
    make_run("vat", 0, precision="fp32")
    make_run("vat", 1, precision="bf16")
    with pytest.raises(UserError, match="precision"):
        _groups()
