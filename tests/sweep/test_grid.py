"""Sweeps as they are typed: what runs, what does not, and what is said about it."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf, open_dict
from small_sweeps import TINY, Sslbench, add_broken, read

from sslbench.config import conf_dir
from sslbench.sweep.cells import Cell, without_repeats
from sslbench.sweep.folder import held
from sslbench.sweep.grid import _planned

GRID = ["-m", *TINY, "algorithm=supervised,pi_model", "loss=mse,l1", "seed=0,1"]  # 6 runs


def results(folder: Path = Path("outputs")) -> dict[str, int]:
    """When each run ended."""
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("*/result.json")}


def count(text: str, row: str) -> int:
    """A number of the table that ends a sweep."""
    found = re.search(rf"│ {row} +│ +(\d+) │", text)
    return int(found[1]) if found else 0


def planned(typed: Sequence[str], *chosen: str) -> list[Cell]:
    """The cells of a sweep, with the choices that Hydra makes before it."""
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        master = compose(
            "config", overrides=list(chosen) or ["hydra.mode=MULTIRUN"], return_hydra_config=True
        )
        assert master.hydra.mode == RunMode.MULTIRUN
        with open_dict(master):
            master.hydra.job.config_name = "config"
        values = [f"{key}={value}" for key, value in master.hydra.sweeper.params.items()]
        _, cells = _planned([*values, *typed], master, GlobalHydra.instance().config_loader())
    return without_repeats(cells)


def test_a_sweep_and_the_same_again(sslbench: Sslbench, capfd: pytest.CaptureFixture[str]) -> None:
    assert sslbench(*GRID) == 0
    out, err = capfd.readouterr()
    assert "sweep: 6 runs, 2 combinations are the same run as another, 6 to run" in out
    assert count(out, "finished") == 6
    assert out.count("] finished ") == 6
    assert err == ""
    first = results()
    assert len(first) == 6
    one = next(iter(first))
    (Path("outputs") / one / "result.json").unlink()
    assert sslbench(*GRID) == 0
    out = capfd.readouterr().out
    assert "5 finished before, 1 to run" in out
    assert (count(out, "finished"), count(out, "skipped, finished before")) == (1, 5)
    again = results()
    assert {name for name in again if again[name] != first[name]} == {one}
    sweeps = list(Path("outputs/sweeps").iterdir())
    assert len(sweeps) == 2
    assert all(len((sweep / "cells.jsonl").read_text().splitlines()) == 6 for sweep in sweeps)


def test_seeds_are_as_if_each_run_had_been_typed(sslbench: Sslbench) -> None:
    typed = [*TINY, "algorithm=supervised", "log_every=${seed}", "split_seed=${seed}"]
    assert sslbench("-m", *typed, "seed=1,2") == 0
    for seed in (1, 2):
        [saved] = Path("outputs").glob(f"supervised-*-s{seed}-*/config.yaml")
        assert sslbench(*typed, f"seed={seed}", "output_root=alone") == 0
        assert f"split_seed: {seed}\n" in saved.read_text()
        assert f"log_every: {seed}\n" in saved.read_text()
        assert (Path("alone") / saved.parent.name).exists(), "the same identity leads to the same name"


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("algorithm.weight=1.0,-1", "algorithm: weight=-1"),
        ("algorithm.weight=1.0,heavy", "algorithm.weight=heavy"),
        ("num_labels=20,55", "num_labels=55 is not divisible by the 10 classes"),
        ("dataset.images.crop=1,9,-2", "dataset.images: crop=-2"),
        ("schedule=exponential schedule.every=0", "schedule: "),
        ("steps=4,many seed=-1,0", "seed=-1 must be from 0"),
        ("loss=mse,mee", "did you mean 'mse'"),
        ("steps=4,0", "steps=0 must be at least 1"),
        ("run_dir=here", "would be the folder of two different runs"),
    ],
)
def test_nothing_starts_while_a_configuration_is_wrong(
    wrong: str, told: str, sslbench: Sslbench, capfd: pytest.CaptureFixture[str]
) -> None:
    changed = tuple(f"{part.partition('=')[0]}=" for part in wrong.split(" "))
    tiny = [word for word in TINY if not word.startswith(changed)]
    assert sslbench("-m", *tiny, "algorithm=pi_model", "seed=0,1", *wrong.split(" ")) == 1
    err = capfd.readouterr().err
    assert told in err
    assert all(line.startswith("sslbench: ") for line in err.splitlines())
    assert "Traceback" not in err
    assert not results()
    assert not Path("outputs").exists()


@pytest.mark.parametrize(
    "typed",
    [
        "launcher=joblib,none",
        "sweep=losses,methods",
        "retry_failed=true,false",
        "++fail_fast=true,false",
        "jobs_per_gpu=range(1,3)",
    ],
)
def test_what_only_a_sweep_reads_takes_one_value(
    typed: str, sslbench: Sslbench, capfd: pytest.CaptureFixture[str]
) -> None:
    key = typed.lstrip("+").partition("=")[0]
    assert sslbench("-m", *TINY, "algorithm=supervised", typed, "seed=0,1") == 1
    assert capfd.readouterr() == ("", f"sslbench: {key} takes one value in a sweep\n")
    assert not Path("outputs").exists()


def test_every_mistake_is_told(sslbench: Sslbench, capfd: pytest.CaptureFixture[str]) -> None:
    tiny = [word for word in TINY if not word.startswith("steps")]
    assert sslbench("-m", *tiny, "algorithm=supervised,nonsense", "steps=4,many") == 1
    err = capfd.readouterr().err
    for told in (
        "steps: Value 'many'",
        "algorithm=nonsense: there is no such choice",
        "3 of 4 configurations",
    ):
        assert told in err


def test_a_key_given_twice_is_as_hydra_takes_it(
    sslbench: Sslbench, capfd: pytest.CaptureFixture[str]
) -> None:
    assert sslbench("-m", *TINY, "algorithm=supervised", "seed=0,1", "++seed=5") == 0
    assert "sweep: 1 run, 1 combination is the same run as another, 1 to run" in capfd.readouterr().out
    assert [read(path)["seed"] for path in Path("outputs").glob("*/result.json")] == [5]


@pytest.mark.parametrize(
    ("typed", "batches"),
    [
        ("batch.labelled=5,6 batch={labelled:7,unlabelled:10}", {(7, 10)}),
        ("batch={labelled:7,unlabelled:10} batch.labelled=5,6", {(5, 10), (6, 10)}),
        ("batch={labelled:7,unlabelled:10},{unlabelled:20} batch.labelled=5", {(5, 10), (5, 20)}),
        ("batch.labelled=5,6 batch.unlabelled=10", {(5, 10), (6, 10)}),
    ],
)
def test_a_key_set_whole_and_in_part_is_as_hydra_takes_it(typed: str, batches: set[tuple[int, int]]) -> None:
    cells = planned([*TINY, "algorithm=supervised", *typed.split(" ")])
    assert {tuple(cell.settings["batch"].values()) for cell in cells} == batches
    assert len(cells) == len(batches)


def test_another_sweeper_runs_the_same_jobs(sslbench: Sslbench) -> None:
    assert sslbench("-m", "hydra/sweeper=basic", *TINY, "algorithm=supervised", "seed=0,1") == 0
    assert len(list(Path("outputs").glob("*/job.log"))) == 2


def test_a_folder_of_a_sweep_that_was_typed_can_be_typed_again(sslbench: Sslbench) -> None:
    words = ["-m", "hydra.sweep.dir=mine", *TINY, "algorithm=supervised", "seed=0,1"]
    assert sslbench(*words) == 0
    (Path("mine") / "stop").touch()
    for result in Path("outputs").glob("*/result.json"):
        result.unlink()
    assert sslbench(*words) == 0
    assert len(results()) == 2


def test_a_sweep_has_its_folder_for_itself(sslbench: Sslbench, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["-m", "hydra.sweep.dir=mine", *TINY, "algorithm=supervised", "seed=0"]
    with held(Path("mine").absolute()):
        (Path("mine") / "stop").touch()
        assert sslbench(*words) == 1
        assert sorted(path.name for path in Path("mine").iterdir()) == [".lock", "stop"]
    err = capfd.readouterr().err
    assert err.startswith("sslbench: another sweep is running in ")
    assert "give another hydra.sweep.dir" in err
    assert sslbench(*words) == 0


def test_the_first_failure_stops_a_sweep_that_nobody_reads(tmp_path: Path) -> None:
    own = add_broken(tmp_path)
    words = ["-m", *own, *TINY, "algorithm=broken,supervised", "seed=0,1", "fail_fast=true"]
    words += ["steps=1000000", "eval_every=1000000"]
    line = f"{sys.executable} -m sslbench.cli {shlex.join(words)} | head -c 1"
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    subprocess.run(
        ["bash", "-c", line],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert not list((tmp_path / "outputs").glob("*/result.json"))
    [begun] = (tmp_path / "outputs").glob("*/status.json")
    assert read(begun)["status"] == "failed", "nothing was begun after it"


def test_wrong_configurations_are_counted(sslbench: Sslbench, capfd: pytest.CaptureFixture[str]) -> None:
    assert sslbench("-m", *TINY, "algorithm=pi_model", "algorithm.weight=-1,2.0", "seed=range(0,4)") == 1
    err = capfd.readouterr().err.splitlines()
    assert len(err) == 2
    assert err[0].endswith("seed=0] and 3 more")
    assert err[1] == "sslbench: nothing was started: 4 of 8 configurations are wrong"


def test_a_failure_stops_nothing_else(
    sslbench: Sslbench, capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    sweep = ["-m", *add_broken(tmp_path), *TINY, "algorithm=broken,supervised", "seed=0,1"]
    assert sslbench(*sweep) == 1
    out = capfd.readouterr().out
    assert out.index("failed broken-digits-20-s0") < out.index("finished supervised"), "told when it happens"
    assert "RuntimeError: made to fail [" in out
    assert "traceback in" in out
    assert (count(out, "finished"), count(out, "failed")) == (2, 2)
    folders = sorted(Path("outputs").glob("broken-*"))
    assert len(folders) == 2
    for folder in folders:
        assert "made to fail" in read(folder / "status.json")["traceback"]
        assert "RuntimeError: made to fail" in (folder / "job.log").read_text()
    stamps = [(folder / "status.json").stat().st_mtime_ns for folder in folders]

    assert sslbench(*sweep) == 1
    out = capfd.readouterr().out
    assert "2 finished before, 2 failed before (retry_failed=true tries them again), 0 to run" in out
    assert stamps == [(folder / "status.json").stat().st_mtime_ns for folder in folders]

    mended = tmp_path / "broken_algorithm.py"
    mended.write_text("from sslbench.algorithms.supervised import Supervised as Broken\n")
    assert sslbench(*sweep, "retry_failed=true") == 0
    assert count(capfd.readouterr().out, "finished") == 2
    assert len(results()) == 4


def block(place: Path, how: str) -> None:
    """Put something where a run with this folder writes."""
    if how == "folder":
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
    else:
        (place / how).mkdir(parents=True)


@pytest.mark.parametrize("how", ["folder", "job.log", "status.json"])
@pytest.mark.parametrize("fail_fast", [False, True])
def test_a_run_that_cannot_write_into_its_folder(
    how: str, fail_fast: bool, sslbench: Sslbench, capfd: pytest.CaptureFixture[str]
) -> None:
    typed = [*TINY, "algorithm=supervised", "seed=0,1", f"fail_fast={fail_fast}"]
    place = planned(typed)[0].folder
    block(place, how)
    assert sslbench("-m", *typed) == 1
    out = capfd.readouterr().out
    assert count(out, "failed") == 1
    [told, *_] = (line for line in out.splitlines() if line.startswith(f"failed {place.name}: "))
    assert str(place) in told
    assert "seed=0" in told
    assert "traceback in" not in told
    assert (count(out, "not started"), count(out, "finished")) == ((1, 0) if fail_fast else (0, 1))
    if not fail_fast:
        assert out.index(told) < out.index("] finished "), "told when it happens"
    if how == "folder":
        place.unlink()
    else:
        (place / how).rmdir()
    assert sslbench("-m", *typed) == 0
    assert count(capfd.readouterr().out, "finished") == 1 + fail_fast


def test_a_worker_that_composes_another_run_refuses_it(
    sslbench: Sslbench, capfd: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    numbers = iter(range(1000))
    OmegaConf.register_new_resolver("another", lambda: next(numbers), use_cache=False)
    request.addfinalizer(lambda: OmegaConf.clear_resolver("another"))
    assert sslbench("-m", *TINY, "algorithm=supervised", "seed=0,1", "split_seed=${another:}") == 1
    out = capfd.readouterr().out
    assert count(out, "failed") == 2
    told = re.findall(r"^failed (\S+): planned was (\S+), and the worker makes (\S+) of", out, re.MULTILINE)
    assert len(told) == 2
    assert all(name == plan != made for name, plan, made in told)
    assert [path.name for path in Path("outputs").iterdir()] == ["sweeps"]


def test_fail_fast(
    sslbench: Sslbench, capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    sweep = ["-m", *add_broken(tmp_path), *TINY, "algorithm=broken,supervised", "seed=0"]
    assert sslbench(*sweep, "fail_fast=true") == 1
    out = capfd.readouterr().out
    assert (count(out, "failed"), count(out, "not started")) == (1, 1)
    assert not results()


def test_a_preset_needs_no_flag_and_what_is_typed_wins(
    sslbench: Sslbench, capfd: pytest.CaptureFixture[str]
) -> None:
    typed = [*TINY, "algorithm=supervised,mean_teacher", "seed=3", "split_seed=1"]
    assert sslbench("sweep=losses", *typed) == 0
    out = capfd.readouterr().out
    assert "sweep: 5 runs, 3 combinations are the same run as another, 5 to run" in out
    found = [read(path) for path in Path("outputs").glob("*/result.json")]
    assert sorted(result["loss"] or "" for result in found) == ["", "js", "kl", "l1", "mse"]
    assert {(result["seed"], result["split_seed"]) for result in found} == {(3, 1)}


@pytest.mark.parametrize(("preset", "runs"), [("losses", 51), ("methods", 21), ("labels", 60)])
def test_every_preset_can_be_planned(preset: str, runs: int) -> None:
    assert len(planned([], f"sweep={preset}")) == runs
    assert {path.stem for path in (conf_dir() / "sweep").iterdir()} == {"losses", "methods", "labels"}


def sweeps_at_once(words: Sequence[str], folder: Path, count: int) -> list[tuple[int, str]]:
    command = [sys.executable, "-m", "sslbench.cli", *words]
    running = [
        subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ
        )
        for _ in range(count)
    ]
    return [(process.wait(), process.communicate()[0]) for process in running]


def test_two_sweeps_at_once_share_the_work(tmp_path: Path) -> None:
    words = ["-m", *TINY, "algorithm=supervised", "seed=0,1,2,3,4,5", "output_root=out"]
    words += ["steps=400", "eval_every=20"]
    (code, one), (other_code, two) = sweeps_at_once(words, tmp_path, 2)
    assert (code, other_code) == (0, 0), one + two
    logs = list((tmp_path / "out").glob("*/job.log"))
    assert len(logs) == 6
    assert all(log.read_text().count("test acc at best val") == 1 for log in logs)
    spans = sorted(
        (begun.stat().st_mtime, begun.with_name("result.json").stat().st_mtime)
        for begun in (tmp_path / "out").glob("*/split.npz")
    )
    overlaps = [after[0] < before[1] for before, after in pairwise(spans)]
    assert any(overlaps), "side by side, and not each waiting for the other's runs"
    assert len(list((tmp_path / "out" / "sweeps").iterdir())) == 2


def test_a_folder_that_cannot_be_written(sslbench: Sslbench, capfd: pytest.CaptureFixture[str]) -> None:
    Path("file").touch()
    assert sslbench("-m", *TINY, "seed=0,1", "output_root=file/below") == 1
    assert "cannot be written" in capfd.readouterr().err
