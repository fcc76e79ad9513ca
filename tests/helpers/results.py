"""Results of runs that were never trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SUMMARY: dict[str, Any] = {
    "run_id": "vat-kl-mnist-100-s3-4f3a", "name": "vat-kl-mnist-100-s3", "group": "vat-kl-mnist-100-4f3a",
    "algorithm": "vat", "dataset": "mnist", "model": "mlp", "loss": "kl", "num_labels": 100,
    "num_valid": 1000, "seed": 3, "split_seed": 0, "steps": 2000,
}  # fmt: skip
#: As written at commit ba4aa75: schema 1, without the version and the hash of the data.
RESULT: dict[str, Any] = {
    "schema": 1, **SUMMARY, "split_hash": 64 * "e", "overrides": ["algorithm=vat", "loss=kl", "seed=3"],
    "val_acc_best": 0.915, "step_best": 1500, "test_acc": 0.91, "test_acc_last": 0.908,
    "test_acc_median20": 0.909, "test_ece": 0.034, "train_seconds": 12.5, "steps_per_second": 160.0,
    "device": "cpu", "precision": "fp32", "torch": "2.11.0", "git_commit": 40 * "a",
}  # fmt: skip


def result_text(run_id: str, **changes: Any) -> str:
    """The content of a whole ``result.json`` of the run `run_id`."""
    return json.dumps({**RESULT, "run_id": run_id, **changes})


def write_result(folder: Path, run_id: str, **changes: Any) -> Path:
    """Write it into the run's folder; returns the path."""
    path = folder / "result.json"
    path.write_text(result_text(run_id, **changes))
    return path
