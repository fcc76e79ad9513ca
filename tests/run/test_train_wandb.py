"""A whole run logged to W&B without a network, read back with W&B's own reader."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from helpers.curves import read_metrics
from helpers.wandb_files import log_out, offline_folder, points_of, records_of, summary_of
from sslbench.config.schema import Settings
from sslbench.run.train import run


@pytest.fixture(autouse=True)
def _logged_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    log_out(monkeypatch, tmp_path)


def test_wandb_holds_what_the_files_hold(
    settings_of: Callable[..., Settings], capfd: pytest.CaptureFixture[str]
) -> None:
    settings = settings_of("logger=wandb", "seed=4")
    result = run(settings)
    directory = settings.directory()
    said = capfd.readouterr().out
    assert said.count("Not logged in to W&B") == 1
    assert f"wandb sync {offline_folder(directory)}" in said

    seen = summary_of(directory)
    config = json.loads(json.dumps(asdict(settings)))
    assert seen["config"] == {key: value for key, value in config.items() if value != {}}
    assert seen["config"]["algorithm"]["eps"] == settings.algorithm["eps"]
    assert seen["name"] == "vat-kl-digits-20-s4"
    assert {"vat", "digits", "20 labels"} <= set(seen["tags"])
    summary = seen["summary"]
    for key, field in (("val_acc", "val_acc_best"), ("step", "step_best"), ("test_acc", "test_acc")):
        assert summary[f"best/{key}"] == result[field]
    assert summary["final/test_acc"] == result["test_acc_last"]

    points = read_metrics(directory / "metrics.jsonl")
    history = [point for point in points_of(directory) if point["step"]]  # without the sheet of views
    assert [{k: v for k, v in point.items() if not k.startswith("_")} for point in history] == points
    [written] = records_of(directory, "run")
    assert written["run_group"] == settings.group


def test_seeds_share_a_group_and_another_loss_does_not(settings_of: Callable[..., Settings]) -> None:
    seen = {}
    for options in (("loss=js", "seed=0"), ("loss=js", "seed=1", "split_seed=1"), ("loss=mse", "seed=0")):
        settings = settings_of("logger=wandb", "logger.mode=offline", "algorithm=pi_model", *options)
        run(settings)
        [seen[options[0], settings.seed]] = records_of(settings.directory(), "run")
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
