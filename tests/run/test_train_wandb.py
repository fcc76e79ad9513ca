"""A whole run logged to W&B without a network, read back with W&B's own reader."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import wandb

from sslbench.config.schema import Settings
from sslbench.run.train import run
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
    assert seen["config"] == json.loads(json.dumps(asdict(settings)))
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
    assert written["run_group"] == settings.group


def test_seeds_share_a_group_and_another_loss_does_not(settings_of: Callable[..., Settings]) -> None:
    seen = {}
    for options in (("loss=js", "seed=0"), ("loss=js", "seed=1", "split_seed=1"), ("loss=mse", "seed=0")):
        settings = settings_of("logger=wandb", "logger.mode=offline", "algorithm=pi_model", *options)
        run(settings)
        [folder] = (settings.directory() / "wandb").glob("offline-run-*")
        records = [json.loads(line) for line in inspect(folder).splitlines()]
        [seen[options[0], settings.seed]] = [r["run"] for r in records if r["type"] == "run"]
        star = [r["metric"] for r in records if r["type"] == "metric" and r["metric"].get("glob_name") == "*"]
        assert [metric["step_metric"] for metric in star] == ["step"]
    groups = {key: written["run_group"] for key, written in seen.items()}
    assert groups["loss=js", 0] == groups["loss=js", 1] != groups["loss=mse", 0]
    assert [written["display_name"] for written in seen.values()] == [
        "pi_model-js-digits-20-s0",
        "pi_model-js-digits-20-s1",
        "pi_model-mse-digits-20-s0",
    ]
    for written in seen.values():
        assert written["job_type"] == "train"
        assert sorted(written["tags"]) == ["20 labels", "digits", "pi_model"]
