"""A whole run logged to W&B without a network, read back with W&B's own reader."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import wandb

from sslbench.config import Settings, nested
from sslbench.run import run
from sslbench.tracking import read_metrics


@pytest.fixture(autouse=True)
def _logged_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "no.netrc"))
    wandb.teardown()


def inspect(folder: Path, *options: str) -> str:
    command = [sys.executable, "-m", "wandb", "leet", "inspect", *options, "--json", str(folder)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_wandb_holds_what_the_files_hold(
    settings_of: Callable[..., Settings], capfd: pytest.CaptureFixture[str]
) -> None:
    settings = settings_of("logger=wandb", "seed=4")
    result = run(settings)
    directory = settings.directory()
    [folder] = (directory / "wandb").glob("offline-run-*")
    said = capfd.readouterr().out
    assert said.count("Not logged in to W&B") == 1
    assert f"wandb sync {folder}" in said

    seen = json.loads(inspect(folder, "--summary"))
    assert seen["config"] == json.loads(json.dumps(nested(settings)))
    assert seen["config"]["algorithm"]["eps"] == settings.algorithm["eps"]
    assert seen["name"] == "vat-kl-digits-20-s4"
    assert {"vat", "digits", "20 labels"} <= set(seen["tags"])
    summary = seen["summary"]
    for key, field in (("val_acc", "val_acc_best"), ("step", "step_best"), ("test_acc", "test_acc")):
        assert summary[f"best/{key}"] == result[field]
    assert summary["final/test_acc"] == result["test_acc_last"]

    records = [json.loads(line) for line in inspect(folder).splitlines()]
    history: list[dict[str, Any]] = [r["history"]["item"] for r in records if r["type"] == "history"]
    points = read_metrics(directory / "metrics.jsonl")
    assert [{k: v for k, v in point.items() if not k.startswith("_")} for point in history] == points
    [written] = [r["run"] for r in records if r["type"] == "run"]
    assert written["run_group"] == settings.group == settings_of("logger=wandb", "seed=5").group
