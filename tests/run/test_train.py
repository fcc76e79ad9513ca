"""Whole runs on real digits: what they write, how they end, and how they go on."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.curves import read_metrics
from sslbench.cli.eval_command import main as evaluate_main
from sslbench.config.saved import load
from sslbench.config.schema import Settings
from sslbench.errors import DivergedError, UserError
from sslbench.run.evaluate import evaluate_run
from sslbench.run.train import check, run, run_locked
from sslbench.rundir.checkpoint import load_checkpoint, save_checkpoint
from sslbench.tracking import Fanout, FileTracker, NullTracker, Tracker

MakeSettings = Callable[..., Settings]

RESULT_FIELDS = {
    "schema", "run_id", "algorithm", "dataset", "model", "loss", "num_labels", "seed", "split_seed",
    "split_hash", "steps", "val_acc_best", "step_best", "test_acc", "test_acc_last", "test_acc_median20",
    "test_ece", "test_calibration", "metrics_best", "metrics_last", "train_seconds", "steps_per_second",
    "device", "torch", "sslbench_version", "git_commit",
}  # fmt: skip


def status_of(directory: Path) -> dict[str, Any]:
    status: dict[str, Any] = json.loads((directory / "status.json").read_text())
    return status


def test_a_run_writes_all_that_it_promises(settings_of: MakeSettings) -> None:
    settings = settings_of("steps=10")
    result = run(settings)
    directory = settings.directory()
    written = {path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()}
    assert written == {
        ".lock", "config.yaml", "split.npz", "metrics.jsonl", "checkpoint/last.pt", "model.safetensors",
        "pictures/views.png", "model.json", "result.json", "status.json",
    }  # fmt: skip
    assert json.loads((directory / "result.json").read_text()) == result
    assert result.keys() >= RESULT_FIELDS
    assert status_of(directory)["status"] == "finished"
    assert load(directory / "config.yaml") == settings
    with np.load(directory / "split.npz", allow_pickle=False) as split:
        assert str(split["hash"]) == result["split_hash"]
        assert len(split["labelled"]) == settings.num_labels

    points = read_metrics(directory / "metrics.jsonl")
    evaluated = [point for point in points if "val/acc" in point]
    assert [point["step"] for point in points] == [2, 4, 6, 8, 10]
    assert [point["step"] for point in evaluated] == [4, 8, 10]
    assert points[-1]["images_seen"] == 10 * 50
    assert {"train/loss", "train/supervised", "train/consistency", "train/lr"} <= points[0].keys()
    best = max(evaluated, key=lambda point: (point["val/acc"], point["step"]))
    assert (result["val_acc_best"], result["step_best"]) == (best["val/acc"], best["step"])
    assert (result["test_acc"], result["test_ece"]) == (best["test/acc"], best["test/ece"])
    bins = result["test_calibration"]
    hits = sum(n * share for n, share in zip(bins["counts"], bins["accuracy"], strict=True) if n)
    assert hits / sum(bins["counts"]) == pytest.approx(result["test_acc"], abs=1e-12)
    assert result["test_acc_last"] == evaluated[-1]["test/acc"]
    for field, point in (("metrics_best", best), ("metrics_last", evaluated[-1])):
        expected = {k: v for k, v in point.items() if k.startswith(("val/", "test/"))}
        assert result[field] == expected, field
    assert result["test_acc_median20"] == np.median([point["test/acc"] for point in evaluated])


def test_loggers_get_the_choices_that_were_used(
    settings_of: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, Any]] = []

    def recorder() -> Tracker:
        tracker = NullTracker()
        tracker.start = lambda run: seen.append(run.config["choices"])  # type: ignore[method-assign]
        return tracker

    monkeypatch.setattr("sslbench.tracking.NullTracker", recorder)
    for algorithm in ("supervised", "pi_model"):
        run(settings_of(f"algorithm={algorithm}", "steps=2", "eval_every=2"))
    assert [(found["loss"], found["model"]) for found in seen] == [(None, "mlp"), ("mse", "mlp")]


def test_supervised_learning_on_digits_learns(settings_of: MakeSettings) -> None:
    plenty = ["num_labels=500", "model.hidden=[64]", "steps=100", "eval_every=100", "optimizer.lr=0.01"]
    result = run(settings_of("algorithm=supervised", *plenty))
    assert result["test_acc"] > 0.75


def test_evaluation_gives_exactly_the_numbers_of_the_result(
    settings_of: MakeSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = settings_of("model=cnn", "model.width=8", "seed=3")
    result = run(settings)
    evaluated = evaluate_run(settings.directory(), "cpu")
    assert evaluated == {key: result[key] for key in ("val_acc_best", "test_acc", "test_ece")}
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        evaluate_main([str(settings.directory()), "--json", "--device", "cpu"])
    assert stop.value.code == 0
    assert json.loads(capsys.readouterr().out) == {**evaluated, "agrees": True}


def test_evaluation_notices_another_number(
    settings_of: MakeSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = settings_of()
    path = settings.directory() / "result.json"
    run(settings)
    path.write_text(json.dumps({**json.loads(path.read_text()), "test_acc": 0.999}))
    with pytest.raises(SystemExit) as stop:
        evaluate_main([str(settings.directory()), "--device", "cpu"])
    assert stop.value.code == 1
    assert "but result.json says 0.999" in capsys.readouterr().out


@pytest.mark.parametrize(("change", "code"), [(2e-8, 0), (1e-3, 1)])
def test_evaluation_lets_the_rounding_of_older_calibration_errors_pass(
    settings_of: MakeSettings, change: float, code: int
) -> None:
    settings = settings_of()
    path = settings.directory() / "result.json"
    result = run(settings)
    path.write_text(json.dumps({**result, "test_ece": result["test_ece"] + change}))
    with pytest.raises(SystemExit) as stop:
        evaluate_main([str(settings.directory()), "--device", "cpu"])
    assert stop.value.code == code


@pytest.mark.parametrize("damage", ["missing", "model", "config"])
def test_evaluation_of_a_broken_run_is_one_line(
    settings_of: MakeSettings, tmp_path: Path, damage: str
) -> None:
    settings = settings_of()
    directory = settings.directory()
    if damage != "missing":
        run(settings)
        (directory / {"model": "model.safetensors", "config": "config.yaml"}[damage]).write_bytes(b"\x00: [")
    with pytest.raises(SystemExit) as stop:
        evaluate_main([str(directory)])
    assert str(stop.value.code).startswith("sslbench-eval: ")
    assert len(str(stop.value.code).splitlines()) == 1


@pytest.mark.fault(
    "a loss that turns NaN", "one line names the term and the step, nothing logged is lost, status failed"
)
def test_a_diverging_run_names_step_and_term_and_keeps_its_log(settings_of: MakeSettings) -> None:
    settings = settings_of("algorithm=supervised", "optimizer=sgd", "optimizer.lr=1e30", "log_every=1")
    with pytest.raises(DivergedError, match=r"'supervised' became NaN or infinite at step [23]"):
        run(settings)
    status = status_of(settings.directory())
    assert status["status"] == "failed"
    assert "'supervised' became NaN" in status["error"]
    assert [point["step"] for point in read_metrics(settings.directory() / "metrics.jsonl")]
    assert not (settings.directory() / "result.json").exists()


def test_a_full_disk_in_the_middle_keeps_what_was_written(
    settings_of: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of()
    log = FileTracker.log

    def full_at_6(self: FileTracker, step: int, metrics: Any) -> None:
        if step == 6:
            raise OSError(28, "No space left on device")
        log(self, step, metrics)

    monkeypatch.setattr(FileTracker, "log", full_at_6)
    with pytest.raises(UserError, match="No space left on device"):
        run(settings)
    assert status_of(settings.directory())["status"] == "interrupted"
    assert [point["step"] for point in read_metrics(settings.directory() / "metrics.jsonl")] == [2, 4]
    monkeypatch.setattr(FileTracker, "log", log)
    assert run(settings)["steps"] == 8


def test_weights_that_broke_in_the_last_update_are_noticed(settings_of: MakeSettings) -> None:
    settings = settings_of("algorithm=supervised", "optimizer=sgd", "optimizer.lr=1e38", "steps=1")
    with pytest.raises(DivergedError, match="weights of 'student' became NaN or infinite by step 1"):
        run(settings)
    assert not (settings.directory() / "checkpoint" / "last.pt").exists()


def stop_halfway(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(self: Fanout, step: int) -> None:
        if step == 6:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Fanout, "advance", stop)
        with pytest.raises(KeyboardInterrupt):
            run(settings)


def test_a_run_does_not_go_on_with_other_data(
    settings_of: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(count: int) -> None:
        images, labels = np.zeros((count, 8, 8, 1), dtype=np.uint8), np.arange(count) % 10
        np.savez(tmp_path / "my.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)

    counts = ["num_labels=20", "num_valid=20"]
    write(100)
    settings = settings_of("dataset=npz", f"dataset.path={tmp_path / 'my.npz'}", *counts)
    del settings.dataset["sha256"]  # as of a loader whose files are not known
    stop_halfway(settings, monkeypatch)
    split = (settings.directory() / "split.npz").read_bytes()
    write(120)
    with pytest.raises(UserError, match="the data have changed since"):
        run(settings)
    assert (settings.directory() / "split.npz").read_bytes() == split


def test_a_run_does_not_go_on_on_another_kind_of_device(
    settings_of: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of()
    stop_halfway(settings, monkeypatch)
    path = settings.directory() / "checkpoint" / "last.pt"
    state = load_checkpoint(path)
    save_checkpoint(path, {**state, "origin": {**state["origin"], "device": "cuda"}})
    with pytest.raises(UserError, match="set device=cuda to continue"):
        run(settings)


def test_leftovers_of_a_killed_write_are_removed(settings_of: MakeSettings) -> None:
    settings = settings_of()
    leftover = settings.directory() / "checkpoint" / ".last.pt.123.part"
    leftover.parent.mkdir(parents=True)
    leftover.write_bytes(b"half")
    run(settings)
    assert not leftover.exists()


def test_running_twice_trains_once(settings_of: MakeSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of()
    first = run(settings)
    monkeypatch.setattr("sslbench.run.train.train", None)
    assert run(settings) == first


def test_no_room_for_the_run_is_said_before_it_starts(
    settings_of: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of()
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 2**20})())
    with pytest.raises(UserError, match="1 MiB free and the run needs about"):
        run(settings)
    assert not settings.directory().exists()


def start(directory: Path, steps: int) -> subprocess.Popen[str]:
    """A longer run in a process of its own, once it has written a checkpoint."""
    arguments = [
        "model=mlp",
        "model.hidden=[16]",
        f"steps={steps}",
        "eval_every=20",
        "checkpoint_every=10",
        "logger=none",
        "threads=1",
    ]
    program = [sys.executable, "-m", "sslbench", *arguments, "device=cpu", f"run_dir={directory}"]
    process = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not (directory / "checkpoint" / "last.pt").exists():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline, "no checkpoint within two minutes"
        time.sleep(0.05)
    return process


@pytest.mark.thorough
@pytest.mark.fault(
    "two processes started on one run folder; the first one terminated (SIGTERM)",
    "the second says so and leaves; the first is interrupted with exit code 143",
)
def test_a_terminated_run_says_so_and_a_second_process_may_not_enter(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    process = start(directory, steps=1_000_000)
    try:
        intruder = subprocess.run(process.args, capture_output=True, text=True, check=False)
        assert intruder.returncode == 1
        assert "is in use" in intruder.stderr
    finally:
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 143
    [line] = err.splitlines()
    assert re.fullmatch(
        r"sslbench: interrupted at step [\d,]+ of 1,000,000; the same command continues from \S+/run", line
    )
    assert status_of(directory)["status"] == "interrupted"


@pytest.mark.fault("the command killed with SIGKILL and typed again", "goes on from its checkpoint")
def test_a_killed_run_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    process = start(directory, steps=300)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (directory / "result.json").exists()
    assert not [path for path in directory.rglob("*.part") if path.parent.name != "checkpoint"]
    done = subprocess.run(process.args, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "from step " in done.stdout
    steps = [point["step"] for point in read_metrics(directory / "metrics.jsonl")]
    assert steps == sorted(set(steps))
    assert steps[-1] == 300


@pytest.mark.real_data
def test_mnist_and_fashion_mnist_run_to_a_result(settings_of: MakeSettings, real_data_root: Path) -> None:
    for dataset, algorithm in (("mnist", "vat"), ("fashion_mnist", "pi_model")):
        counts = ["num_labels=100", "num_valid=200", "steps=4", "loss=js", f"data_root={real_data_root}"]
        result = run(settings_of(f"dataset={dataset}", f"algorithm={algorithm}", *counts))
        assert result["loss"] == "js"
        assert result["test_acc"] > 0.1


def test_what_the_machine_cannot_do_is_told_before_the_data_are_loaded(
    settings_of: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a sweep too, whose runs begin with their folder claimed."""
    monkeypatch.setattr("sslbench.run.train.prepare_data", lambda *_: pytest.fail("it loads the data"))
    settings = settings_of("graph=true")
    with pytest.raises(UserError, match="graph=true is for CUDA devices"):
        run_locked(settings, check(settings))
    with pytest.raises(UserError, match="graph=true is for CUDA devices"):
        run(settings)
    assert not settings.directory().exists(), "a single run is refused before its folder is made"
