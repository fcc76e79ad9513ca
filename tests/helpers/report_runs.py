"""What the tests of the report share; a name of its own, since every folder may have a conftest."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

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
