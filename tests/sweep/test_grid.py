"""Sweeps as they are typed: what runs, what does not, and what is said about it."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from helpers.small_sweeps import TINY, Sslbench, add_broken, check_interrupted, count, read
from sslbench.sweep.grid import sweep_lock

GRID = ["-m", *TINY, "algorithm=supervised,pi_model", "loss=mse,l1", "seed=0"]  # 3 runs


def results(folder: Path = Path("outputs")) -> dict[str, int]:
    """When each run ended."""
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("*/result.json")}


def test_a_sweep_and_the_same_again(sslbench: Sslbench, capfd: pytest.CaptureFixture[str]) -> None:
    assert sslbench(*GRID) == 0
    out, err = capfd.readouterr()
    assert "sweep: 3 runs, 1 combination is the same run as another, 3 to run" in out
    assert count(out, "finished") == 3
    assert out.count("] finished ") == 3
    assert err == ""
    first = results()
    assert len(first) == 3
    one = next(iter(first))
    (Path("outputs") / one / "result.json").unlink()
    assert sslbench(*GRID) == 0
    out = capfd.readouterr().out
    assert "2 finished before, 1 to run" in out
    assert (count(out, "finished"), count(out, "skipped, finished before")) == (1, 2)
    again = results()
    assert {name for name in again if again[name] != first[name]} == {one}
    sweeps = sorted(Path("outputs/sweeps").iterdir(), key=lambda sweep: sweep.stat().st_mtime_ns)
    assert out.endswith(f"compare the runs: sslbench-report {sweeps[-1]}\n")
    assert len(sweeps) == 2
    assert all(len((sweep / "cells.jsonl").read_text().splitlines()) == 3 for sweep in sweeps)


def test_seeds_are_as_if_each_run_had_been_typed(sslbench: Sslbench) -> None:
    typed = [*TINY, "algorithm=supervised", "log_every=${seed}", "split_seed=${seed}"]
    assert sslbench("-m", *typed, "seed=1,2") == 0
    for seed in (1, 2):
        [saved] = Path("outputs").glob(f"supervised-*-s{seed}-*/config.yaml")
        assert sslbench(*typed, f"seed={seed}", "output_root=alone") == 0
        assert f"split_seed: {seed}\n" in saved.read_text()
        assert f"log_every: {seed}\n" in saved.read_text()
        assert (Path("alone") / saved.parent.name).exists(), "the same identity leads to the same name"


def test_another_sweeper_runs_the_same_jobs(sslbench: Sslbench, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["-m", "hydra/sweeper=basic", *TINY, "algorithm=supervised", "seed=0"]
    assert sslbench(*words, "launcher=local") == 1
    assert "give launcher=none" in capfd.readouterr().err
    assert sslbench(*words) == 0
    assert len(list(Path("outputs").glob("*/job.log"))) == 1


def in_folder(name: str) -> list[str]:
    """The words of a sweep whose preset names its folder."""
    preset = Path("own") / "sweep" / "preset.yaml"
    preset.parent.mkdir(parents=True)
    preset.write_text(f"# @package _global_\nhydra: {{sweep: {{dir: {name}}}}}\n")
    return ["-m", "--config-dir", "own", "sweep=preset"]


def test_a_folder_of_a_sweep_can_be_used_again(sslbench: Sslbench) -> None:
    words = [*in_folder("mine"), *TINY, "algorithm=supervised", "seed=0"]
    assert sslbench(*words) == 0
    (Path("mine") / "stop").touch()
    for result in Path("outputs").glob("*/result.json"):
        result.unlink()
    assert sslbench(*words) == 0
    assert len(results()) == 1


def test_a_sweep_has_its_folder_for_itself(sslbench: Sslbench, capfd: pytest.CaptureFixture[str]) -> None:
    words = [*in_folder("mine"), *TINY, "algorithm=supervised", "seed=0"]
    with sweep_lock(Path("mine").absolute(), []):
        (Path("mine") / "stop").touch()
        assert sslbench(*words) == 1
        assert sorted(path.name for path in Path("mine").iterdir()) == [".sweep.lock", "cells.jsonl", "stop"]
    err = capfd.readouterr().err
    assert err.startswith("sslbench: another sweep is running in ")
    assert "give another hydra.sweep.dir" in err
    assert sslbench(*words) == 0


def test_a_failure_stops_nothing_else(
    sslbench: Sslbench, capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    sweep = ["-m", *add_broken(tmp_path), *TINY, "algorithm=broken,supervised", "seed=0,1"]
    assert sslbench(*sweep) == 1
    out = capfd.readouterr().out
    assert out.index("failed broken-digits-20-s0") < out.index("finished supervised"), "printed at once"
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


def test_fail_fast(
    sslbench: Sslbench, capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    sweep = ["-m", *add_broken(tmp_path), *TINY, "algorithm=broken,supervised", "seed=0"]
    assert sslbench(*sweep, "fail_fast=true") == 1
    out = capfd.readouterr().out
    assert (count(out, "failed"), count(out, "not started")) == (1, 1)
    assert not results()


@pytest.mark.parametrize(
    ("number", "launcher"),
    [(signal.SIGINT, ["launcher=joblib", "hydra.launcher.n_jobs=2"]), (signal.SIGTERM, [])],
)
def test_interrupted(
    number: int, launcher: list[str], sslbench: Sslbench, capfd: pytest.CaptureFixture[str]
) -> None:
    words = [
        "-m",
        *launcher,
        *TINY,
        "algorithm=supervised",
        "seed=0,1,2",
        "steps=1000000",
        "eval_every=1000000",
    ]
    words += ["log_every=1", "checkpoint_every=1000s"]  # no checkpoint but that of the interrupt
    begun = 2 if launcher else 1

    def interrupt() -> None:
        while sum(path.stat().st_size > 0 for path in Path("outputs").glob("*/metrics.jsonl")) < begun:
            time.sleep(0.05)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=interrupt)
    thread.start()
    assert sslbench(*words) == 128 + number
    thread.join()
    out, err = capfd.readouterr()
    assert [count(out, row) for row in ("interrupted", "not started", "finished")] == [begun, 3 - begun, 0]
    assert err == "sslbench: interrupted: 0 of 3 runs in outputs finished; the same command continues\n"
    assert len(list(Path("outputs").glob("*/status.json"))) == begun
    check_interrupted(Path("outputs"))


@pytest.mark.parametrize("n_jobs", ["0", "many"])
def test_a_number_of_jobs_that_makes_no_sense(
    n_jobs: str, sslbench: Sslbench, capfd: pytest.CaptureFixture[str]
) -> None:
    assert sslbench("-m", "launcher=local", f"hydra.launcher.n_jobs={n_jobs}", *TINY, "seed=0,1") == 1
    assert f"hydra.launcher.n_jobs={n_jobs} must be at least 1" in capfd.readouterr().err


def test_a_preset_needs_no_flag_and_what_is_typed_wins(
    sslbench: Sslbench, capfd: pytest.CaptureFixture[str]
) -> None:
    typed = [*TINY, "algorithm=supervised,mean_teacher", "loss=kl,js", "seed=3", "split_seed=1"]
    assert sslbench("sweep=losses", *typed) == 0
    out = capfd.readouterr().out
    assert "sweep: 3 runs, 1 combination is the same run as another, 3 to run" in out
    found = [read(path) for path in Path("outputs").glob("*/result.json")]
    assert sorted(result["loss"] or "" for result in found) == ["", "js", "kl"]
    assert {(result["seed"], result["split_seed"]) for result in found} == {(3, 1)}


def test_a_run_in_the_folder_of_the_sweep(sslbench: Sslbench) -> None:
    assert sslbench(*in_folder("x"), *TINY, "seed=3", "run_dir=x") == 0
    assert Path("x/result.json").exists()
    assert Path("x/cells.jsonl").exists()


def test_a_folder_that_cannot_be_written(sslbench: Sslbench, capfd: pytest.CaptureFixture[str]) -> None:
    Path("file").touch()
    assert sslbench("-m", *TINY, "seed=0,1", "output_root=file/below") == 1
    assert "cannot be written" in capfd.readouterr().err
