from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from helpers.report_runs import MakeRun, metrics


@pytest.fixture
def make_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeRun:
    """Writes a finished run below ``runs/`` of the working directory and returns its folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)
    (tmp_path / "runs").mkdir()

    def make(algorithm: str = "vat", seed: int = 0, test_acc: float = 0.9, **changes: Any) -> Path:
        loss = changes.get("loss", None if algorithm == "supervised" else "kl")
        dataset, num_labels = changes.get("dataset", "mnist"), changes.get("num_labels", 100)
        group = changes.get("group", f"{algorithm}-{loss}-{dataset}-{num_labels}-4f3a")
        split_seed = changes.get("split_seed", 0)
        folder = Path("runs") / f"{group}-s{seed}-{split_seed}"
        typed = [f"algorithm={algorithm}", *([f"loss={loss}"] if loss else []), f"seed={seed}"]
        result = {
            "schema": 1,
            "run_id": folder.name,
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
            "overrides": typed,
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
        folder.mkdir()
        (folder / "result.json").write_text(json.dumps(result))
        (folder / "status.json").write_text('{"status": "finished"}')
        accs = [0.1, 0.5, test_acc - 0.01, result["test_acc_last"]]
        (folder / "metrics.jsonl").write_text(metrics(accs, result["steps"]))
        return folder

    return make
