from __future__ import annotations

from pathlib import Path

from helpers.report_runs import MakeRun
from sslbench.report.compare.groups import group_runs
from sslbench.report.read.find import find_runs
from sslbench.report.write.commands import commands


def _commands(make_run: MakeRun, *runs: tuple[int, int, list[str]]) -> list[str]:
    for seed, split_seed, overrides in runs:
        make_run("vat", seed, split_seed=split_seed, overrides=overrides)
    (group,) = group_runs(find_runs([Path("runs")]).runs)
    return commands(group)


def test_command_sweeps_sorted_seeds(make_run: MakeRun) -> None:
    runs = [(seed, 0, ["experiment=seeds/vat_mnist", f"seed={seed}"]) for seed in (10, 2, 0)]
    assert _commands(make_run, *runs) == ["sslbench -m experiment=seeds/vat_mnist split_seed=0 seed=0,2,10"]


def test_command_of_one_seed(make_run: MakeRun) -> None:
    assert _commands(make_run, (0, 0, ["loss=kl"])) == ["sslbench loss=kl seed=0"]


def test_command_is_quoted_and_drops_what_belongs_to_one_run(make_run: MakeRun) -> None:
    typed = ["++seed=1", "model.widths=[10,20]", "run_dir=runs/a", "data_root=/data", "+note='it is'"]
    (line,) = _commands(make_run, (1, 0, typed))
    assert line == """sslbench 'model.widths=[10,20]' '+note='"'"'it is'"'"'' split_seed=0 seed=1"""


def test_command_does_not_say_how_a_sweep_was_run(make_run: MakeRun) -> None:
    swept = [
        "loss=kl",
        "launcher=joblib",
        "hydra.launcher.n_jobs=2",
        "hydra/launcher=ray",
        "retry_failed=true",
    ]
    runs = [(0, 0, [*swept, "fail_fast=true", "jobs_per_gpu=2"]), (1, 0, ["loss=kl"])]
    assert _commands(make_run, *runs) == ["sslbench -m loss=kl split_seed=0 seed=0,1"]


def test_command_lists_split_seeds_as_a_grid(make_run: MakeRun) -> None:
    runs = [(seed, split, [f"seed={seed}", f"split_seed={split}"]) for split in (1, 0) for seed in (0, 1)]
    assert _commands(make_run, *runs) == ["sslbench -m split_seed=0,1 seed=0,1"]


def test_command_runs_no_more_than_the_group_holds(make_run: MakeRun) -> None:
    runs = [(seed, seed + 3, [f"seed={seed}", f"split_seed={seed + 3}"]) for seed in (0, 1)]
    assert _commands(make_run, *runs) == ["sslbench split_seed=3 seed=0", "sslbench split_seed=4 seed=1"]


def test_a_split_seed_that_is_the_seed_is_the_default(make_run: MakeRun) -> None:
    runs = [(seed, seed, ["loss=kl", f"seed={seed}"]) for seed in (0, 1)]
    assert _commands(make_run, *runs) == ["sslbench -m loss=kl seed=0,1"]


def test_command_keeps_a_typed_split_seed(make_run: MakeRun) -> None:
    assert _commands(make_run, (0, 7, ["split_seed=7"])) == ["sslbench split_seed=7 seed=0"]


def test_one_command_for_each_way_of_typing(make_run: MakeRun) -> None:
    runs = [(0, 0, ["device=cpu"]), (1, 0, ["device=cuda"]), (2, 0, ["device=cuda"])]
    assert _commands(make_run, *runs) == [
        "sslbench device=cpu seed=0",
        "sslbench -m device=cuda split_seed=0 seed=1,2",
    ]


def test_a_control_character_does_not_reach_the_terminal(make_run: MakeRun) -> None:
    (line,) = _commands(make_run, (0, 0, ["+note=a\x1b[31m\nb"]))
    assert line == r"sslbench '+note=a\x1b[31m\nb' seed=0"
