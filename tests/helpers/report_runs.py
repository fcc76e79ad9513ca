"""Made-up run folders, for the tests of the report."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

MakeRun = Callable[..., Path]

#: The least that a report takes for the configuration of a run.
CONFIG = "".join(
    f"{part}: {{}}\n" for part in ("dataset", "model", "algorithm", "optimizer", "schedule", "choices")
)


def identity(algorithm: str = "vat", seed: int = 0, **changes: object) -> dict[str, object]:
    """What a status or a sweep's plan says about a run; its group is that of `make_run`."""
    loss = changes.get("loss", None if algorithm == "supervised" else "kl")
    group = f"{algorithm}-{loss}-mnist-100-4f3a"
    return {
        "run_id": f"{group}-s{seed}-0", "name": f"{algorithm}-s{seed}", "group": group,
        "algorithm": algorithm, "dataset": "mnist", "model": "mlp", "loss": loss, "num_labels": 100,
        "num_valid": 1000, "seed": seed, "split_seed": 0, "steps": 2000, **changes,
    }  # fmt: skip


def write_status(name: str, status: str, run: object = None, **more: object) -> Path:
    """A run folder below ``runs/`` without a result."""
    folder = Path("runs") / name
    folder.mkdir(parents=True, exist_ok=True)
    known = {"run": run} if run is not None else {}
    (folder / "status.json").write_text(json.dumps({"status": status, "pid": 1, **more, **known}))
    return folder


def write_plan(stamp: str, *cells: tuple[str, dict[str, object]]) -> Path:
    """The ``cells.jsonl`` of a sweep below ``runs/``, with folders relative to ``runs/``."""
    plan = Path("runs") / "sweeps" / stamp / "cells.jsonl"
    plan.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        json.dumps({"schema": 1, "folder": f"../../{folder}", "overrides": [], "run": run})
        for folder, run in cells
    ]
    plan.write_text("".join(line + "\n" for line in lines))
    return plan


def metrics(test_accs: Sequence[float], steps: int = 2000) -> str:
    """Log lines as a run of so many steps leaves them: training lines between the evaluations."""
    lines = []
    for index, acc in enumerate(test_accs, start=1):
        step = steps * index // len(test_accs)
        lines.append({"step": step, "images_seen": 64 * step, "train/loss": 0.5})
        lines.append({"step": step, "val/acc": acc - 0.01, "test/acc": acc})
    return "".join(json.dumps(line) + "\n" for line in lines)


def run_result(
    algorithm: str = "vat", seed: int = 0, test_acc: float = 0.9, **changes: Any
) -> dict[str, Any]:
    """The ``result.json`` of a finished run."""
    loss = changes.get("loss", None if algorithm == "supervised" else "kl")
    dataset, num_labels = changes.get("dataset", "mnist"), changes.get("num_labels", 100)
    group = changes.get("group", f"{algorithm}-{loss}-{dataset}-{num_labels}-4f3a")
    split_seed = changes.get("split_seed", 0)
    return {
        "schema": 1,
        "run_id": f"{group}-s{seed}-{split_seed}",
        "name": f"{algorithm}-{dataset}-{num_labels}-s{seed}",
        "group": group,
        "algorithm": algorithm,
        "dataset": dataset,
        "model": "mlp",
        "loss": loss,
        "num_labels": num_labels,
        "num_valid": 1000,
        "seed": seed,
        "split_seed": split_seed,
        "split_hash": f"{split_seed:08x}" + 56 * "e",
        "steps": 2000,
        "overrides": [f"algorithm={algorithm}", *([f"loss={loss}"] if loss else []), f"seed={seed}"],
        "val_acc_best": test_acc + 0.005,
        "step_best": min(1500, changes.get("steps", 2000)),
        "test_acc": test_acc,
        "test_acc_last": test_acc - 0.002,
        "test_acc_median20": test_acc - 0.001,
        "test_ece": 0.034,
        "train_seconds": 12.5,
        "steps_per_second": 160.0,
        "device": "cpu",
        "precision": "fp32",
        "torch": "2.11.0",
        "git_commit": "0123456789abcdef0123456789abcdef01234567",
        "a_field_of_tomorrow": {"ignored": True},
        **changes,
    }


def write_run(folder: Path, result: dict[str, Any], accs: Sequence[float] = ()) -> Path:
    """The folder of a finished run, with the test accuracies `accs` in its log."""
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps(result))
    (folder / "status.json").write_text('{"status": "finished"}')
    accs = accs or [0.1, 0.5, result["test_acc"] - 0.01, result["test_acc_last"]]
    (folder / "metrics.jsonl").write_text(metrics(accs, result["steps"]))
    return folder


def run_maker(runs: Path) -> MakeRun:
    """Writes finished runs below `runs`: it takes what `run_result` takes and returns the folder."""

    def make(algorithm: str = "vat", seed: int = 0, test_acc: float = 0.9, **changes: Any) -> Path:
        result = run_result(algorithm, seed, test_acc, **changes)
        # The group and the seeds, whatever the run id is.
        return write_run(runs / f"{result['group']}-s{seed}-{result['split_seed']}", result)

    return make


@pytest.fixture
def make_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeRun:
    """Writes a finished run below ``runs/`` of the working directory and returns its folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)
    (tmp_path / "runs").mkdir()
    return run_maker(Path("runs"))
