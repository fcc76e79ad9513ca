"""Sweeps as they are typed: what runs, what does not, and what is said about it."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from helpers.small_sweeps import TINY, Sslbench, add_broken, count, read
from sslbench.sweep.sweep_folder import held

GRID = ["-m", *TINY, "algorithm=supervised,pi_model", "loss=mse,l1", "seed=0,1"]  # 6 runs


def results(folder: Path = Path("outputs")) -> dict[str, int]:
    """When each run ended."""
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("*/result.json")}


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


def test_another_sweeper_runs_the_same_jobs(sslbench: Sslbench) -> None:
    assert sslbench("-m", "hydra/sweeper=basic", *TINY, "algorithm=supervised", "seed=0,1") == 0
    assert len(list(Path("outputs").glob("*/job.log"))) == 2


def in_folder(name: str) -> list[str]:
    """The words of a sweep whose preset names its folder."""
    preset = Path("own") / "sweep" / "preset.yaml"
    preset.parent.mkdir(parents=True)
    preset.write_text(f"# @package _global_\nhydra: {{sweep: {{dir: {name}}}}}\n")
    return ["-m", "--config-dir", "own", "sweep=preset"]


def test_a_folder_of_a_sweep_can_be_used_again(sslbench: Sslbench) -> None:
    words = [*in_folder("mine"), *TINY, "algorithm=supervised", "seed=0,1"]
    assert sslbench(*words) == 0
    (Path("mine") / "stop").touch()
    for result in Path("outputs").glob("*/result.json"):
        result.unlink()
    assert sslbench(*words) == 0
    assert len(results()) == 2


def test_a_sweep_has_its_folder_for_itself(sslbench: Sslbench, capfd: pytest.CaptureFixture[str]) -> None:
    words = [*in_folder("mine"), *TINY, "algorithm=supervised", "seed=0"]
    with held(Path("mine").absolute()):
        (Path("mine") / "stop").touch()
        assert sslbench(*words) == 1
        assert sorted(path.name for path in Path("mine").iterdir()) == [".sweep.lock", "stop"]
    err = capfd.readouterr().err
    assert err.startswith("sslbench: another sweep is running in ")
    assert "give another hydra.sweep.dir" in err
    assert sslbench(*words) == 0


def test_the_first_failure_stops_a_sweep_that_nobody_reads(tmp_path: Path) -> None:
    own = add_broken(tmp_path)
    words = ["-m", *own, *TINY, "algorithm=broken,supervised", "seed=0,1", "fail_fast=true"]
    words += ["steps=1000000", "eval_every=1000000"]
    line = f"{sys.executable} -m sslbench {shlex.join(words)} | head -c 1"
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


def sweeps_at_once(words: Sequence[str], folder: Path, count: int) -> list[tuple[int, str]]:
    command = [sys.executable, "-m", "sslbench", *words]
    running = [
        subprocess.Popen(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ
        )
        for _ in range(count)
    ]
    return [(process.wait(), process.communicate()[0]) for process in running]


def test_two_sweeps_at_once_share_the_work(tmp_path: Path) -> None:
    words = ["-m", *TINY, "algorithm=supervised", "seed=0,1,2,3,4,5", "output_root=out"]
    words += ["steps=1500", "eval_every=20"]  # long beside what a start takes on a busy machine
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


def test_a_run_in_the_folder_of_the_sweep(sslbench: Sslbench) -> None:
    assert sslbench(*in_folder("x"), *TINY, "seed=3", "run_dir=x") == 0
    assert Path("x/result.json").exists()
    assert Path("x/cells.jsonl").exists()


def test_a_folder_that_cannot_be_written(sslbench: Sslbench, capfd: pytest.CaptureFixture[str]) -> None:
    Path("file").touch()
    assert sslbench("-m", *TINY, "seed=0,1", "output_root=file/below") == 1
    assert "cannot be written" in capfd.readouterr().err
