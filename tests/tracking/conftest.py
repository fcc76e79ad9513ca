from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sslbench.tracking import RunInfo


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., RunInfo]:
    """A run in `tmp_path`, with the given fields changed."""

    def make(**changes: Any) -> RunInfo:
        run = RunInfo(
            run_id="pi_model-mse.digits-100-s0-1a2b3c4d",
            name="pi_model-mse-digits-100-s0",
            group="pi_model-mse-digits-100-1a2b3c4d",
            tags=["pi_model", "digits", "100 labels"],
            config={"seed": 0, "algorithm": {"weight": 0.5, "views": ["weak", "weak"]}},
            run_dir=tmp_path,
            total_steps=100,
            first_step=0,
        )
        return replace(run, **changes)

    return make


@pytest.fixture
def result() -> dict[str, Any]:
    return {
        "algorithm": "pi_model",
        "dataset": "digits",
        "num_labels": 100,
        "seed": 0,
        "val_acc_best": 0.9375,
        "step_best": 75,
        "test_acc": 0.92125,
        "test_acc_last": 0.91,
        "test_acc_median20": 0.915,
        "test_ece": 0.0321,
        "train_seconds": 83.4,
        "steps_per_second": 1.2,
    }
