"""Real W&B runs against a server of one's own; `tests/faults/test_wandb_resume.py` kills them too."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wandb

from helpers.wandb_files import log_out
from helpers.wandb_server import ServedRun, WandbServer, serving
from sslbench.tracking import RunInfo, WandbTracker

MakeRun = Callable[..., RunInfo]
LogTo = Callable[[RunInfo, range, str], ServedRun]


@pytest.fixture
def server(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WandbServer]:
    log_out(monkeypatch, tmp_path_factory.mktemp("home"))
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    with serving() as served:
        monkeypatch.setenv("WANDB_BASE_URL", served.url)
        yield served
        wandb.teardown()


def point(step: int) -> dict[str, float]:
    return {"step": step, "train/loss": 1 / step}


@pytest.fixture
def log(server: WandbServer, result: dict[str, Any]) -> LogTo:
    """Logs a run at the given steps, each with a picture, and returns what the server then has of it."""

    def log_to(run: RunInfo, steps: range, status: str) -> ServedRun:
        tracker = WandbTracker(mode="online")
        tracker.start(run)
        for step in steps:
            tracker.log(step, {"train/loss": 1 / step})
            tracker.log_image(step, "generated", np.full((4, 4, 1), step, dtype=np.uint8))
        tracker.close(status, result if status == "finished" else None)
        [served] = server.runs.values()
        return served

    return log_to


def test_the_server_has_each_point_with_its_picture(make_run: MakeRun, log: LogTo) -> None:
    run = log(make_run(), range(20, 120, 20), "finished")
    assert [(row["_step"], row["step"], row["train/loss"]) for row in run.rows] == [
        (step, step, 1 / step) for step in range(20, 120, 20)
    ]
    assert {row["generated"]["path"] for row in run.rows} <= run.uploaded
    assert (run.summary["step"], run.summary["best/val_acc"], run.exit_code) == (100, 0.9375, 0)


def test_steps_that_the_server_has_are_not_sent_again(
    make_run: MakeRun, log: LogTo, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = log(make_run(), range(20, 80, 20), "interrupted")
    rows, uploaded = before.rows, set(before.uploaded)
    # Nothing new: the run had logged its last step, but was killed before it could say that it had finished.
    run = log(make_run(first_step=40, history=[point(20), point(40)]), range(60, 80, 20), "finished")
    assert run.rows == rows
    assert {name for name in run.uploaded - uploaded if name.startswith("media")} == set()
    assert (run.summary["step"], run.summary["train/loss"], run.summary["best/val_acc"]) == (
        60,
        1 / 60,
        0.9375,
    )
    assert run.exit_code == 0
    out, errors = capfd.readouterr()
    assert [line for line in out.splitlines() if not line.startswith("W&B: http")] == []
    assert errors == ""
    [name] = set((tmp_path / "wandb" / "run-id.txt").read_text().split())
    assert json.loads(run.config)["seed"] == {"value": 0}
    assert all(name in folder.name for folder in (tmp_path / "wandb").glob("run-2*"))


def test_a_run_that_went_on_without_the_server_is_mended(
    make_run: MakeRun, log: LogTo, monkeypatch: pytest.MonkeyPatch
) -> None:
    log(make_run(), range(20, 60, 20), "interrupted")
    with monkeypatch.context() as lost:
        lost.setenv("WANDB_MODE", "offline")
        wandb.teardown()
        tracker = WandbTracker()
        tracker.start(make_run(first_step=40, history=[point(20), point(40)]))
        tracker.log(60, {"train/loss": 1 / 60})
        tracker.close("interrupted", None)
    wandb.teardown()
    history = [point(step) for step in (20, 40, 60)]
    run = log(make_run(first_step=60, history=history), range(80, 120, 20), "finished")
    assert [row["step"] for row in run.rows] == list(range(20, 120, 20))
