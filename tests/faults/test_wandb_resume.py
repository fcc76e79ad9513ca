"""Runs that log to W&B are killed and started again: the real client, and a server of one's own."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

import sslbench
from helpers.wandb_files import records_in
from helpers.wandb_server import WandbServer, serving

#: What the loop tells the tracker, without training: a log point every 10 steps, a picture every 50.
LIFE = """
import json, sys, time
from pathlib import Path
import numpy as np
from sslbench.tracking import RunInfo, WandbTracker

folder, mode, first, last, killed = json.loads(sys.argv[1])
point = lambda step: {"step": step, "train/loss": 1 / step, "time/train_seconds": 0.5 * step}
history = [point(step) for step in range(10, first + 1, 10)]
tracker = WandbTracker(mode=mode)
tracker.start(RunInfo("id", "name", "group", [], {"seed": 0}, Path(folder), 100, first, history))
for step in range(first + 10, last + 1, 10):
    tracker.log(step, {key: value for key, value in point(step).items() if key != "step"})
    if step % 50 == 0:
        tracker.log_image(step, "generated", np.full((4, 4, 1), step, dtype=np.uint8))
print("logged", flush=True)
if killed:
    time.sleep(600)
tracker.close("finished", {"test_acc": 0.5})
"""
STEPS = list(range(10, 110, 10))


@dataclass(frozen=True)
class Kill:
    """A kill and what it leaves behind.

    Attributes:
        logged: the last step that was logged.
        sent: so many points the server has got before the kill.
        kept: the step of the checkpoint that the run goes on from.
    """

    logged: int
    sent: int
    kept: int


@dataclass(frozen=True)
class Trained:
    """One run that logs to W&B, killed and started again in `folder`."""

    folder: Path
    environment: dict[str, str]

    def live(self, mode: str, first: int, last: int, ready: Callable[[], bool] | None = None) -> None:
        """Go on from step `first` to `last`; then finish, or be killed as soon as it is `ready`."""
        killed = ready is not None
        life = subprocess.Popen(
            [sys.executable, "-c", LIFE, json.dumps([str(self.folder), mode, first, last, killed])],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert life.stdout is not None
        try:
            before = list(iter(life.stdout.readline, "logged\n")) if killed else []
            deadline = time.monotonic() + 30
            while ready is not None and not ready():
                assert time.monotonic() < deadline, "the points were not sent"
                time.sleep(0.05)
            if killed:
                life.kill()
            # Returns only when the client's own process has ended too: it notices the death of the run's.
            after, errors = life.communicate(timeout=60)
        finally:
            life.kill()
        assert (life.returncode, errors) == (-signal.SIGKILL if killed else 0, "")
        said = [line for line in [*before, *after.splitlines()] if line != "logged"]
        assert [line for line in said if not line.startswith(("W&B: http", "W&B: upload"))] == []


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A client that knows nothing of whoever runs the tests, and sends as often as it can, every second."""
    known = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    return known | {
        "HOME": str(tmp_path),
        "NETRC": str(tmp_path / "no.netrc"),
        "PYTHONPATH": str(Path(sslbench.__file__).parents[1]),
        "WANDB__FILE_STREAM_TRANSMIT_INTERVAL": "1",
    }


def has_got(server: WandbServer, points: int) -> bool:
    return sum(len(run.rows) for run in server.runs.values()) >= points


def some_runs(number: int) -> list[list[Kill]]:
    """Kills at any moment: far from the checkpoint or at it, with much of it sent or nothing."""
    draw, runs = random.Random(0), []
    for _ in range(number):
        kept, kills = 0, []
        while kept < 80 and len(kills) < 5:
            logged = draw.randrange(max(kept, 10), 101, 10)
            sent = draw.randrange(logged // 10)  # the newest is never sent, it waits for its pictures
            kept = draw.randrange(max(kept, 10), logged + 1, 10)
            kills.append(Kill(logged, sent, kept))
        runs.append(kills)
    return runs


@pytest.mark.fault(
    "W&B online: the run killed with SIGKILL and started again", "the same W&B run id, every point once"
)
def test_online(
    tmp_path: Path, environment: dict[str, str], thorough: bool, tried: Callable[[int], None]
) -> None:
    # The server knows more than the checkpoint; then less, and the newest point is in the checkpoint alone.
    runs = some_runs(6) if thorough else [[Kill(50, 4, 30), Kill(80, 0, 80)]]
    for number, kills in enumerate(runs):
        folder = tmp_path / str(number)
        folder.mkdir()
        with serving() as server:
            online = {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": "a" * 40}
            trained, first = Trained(folder, environment | online), 0
            for kill in kills:
                trained.live("online", first, kill.logged, partial(has_got, server, kill.sent))
                first = kill.kept
            trained.live("online", first, 100)
            [(name, run)] = server.runs.items()

        assert (folder / "wandb" / "run-id.txt").read_text() == f"{name}\n"
        assert [(row["_step"], row["step"], row["train/loss"]) for row in run.rows] == [
            (step, step, 1 / step) for step in STEPS
        ]
        assert run.exit_code == 0
        assert (run.summary["step"], run.summary["best/test_acc"]) == (100, 0.5)
        if first < 100:
            assert run.rows[-1]["generated"]["path"] in run.uploaded
    tried(sum(map(len, runs)))


@pytest.mark.thorough
@pytest.mark.fault(
    "W&B offline: the run killed with SIGKILL and started again",
    "the same W&B run id, every point once in the newest folder",
)
def test_offline(
    tmp_path: Path, environment: dict[str, str], thorough: bool, tried: Callable[[int], None]
) -> None:
    runs = some_runs(4) if thorough else [[Kill(50, 0, 30)]]
    for number, kills in enumerate(runs):
        folder = tmp_path / str(number)
        folder.mkdir()
        trained, first = Trained(folder, environment), 0
        for kill in kills:
            trained.live("offline", first, kill.logged, lambda: True)
            first = kill.kept
        trained.live("offline", first, 100)

        lives = sorted((folder / "wandb").glob("offline-run-*"))
        assert len(lives) == len(kills) + 1
        assert len({life.name.split("-", 3)[-1] for life in lives}) == 1
        points = [record["item"] for record in records_in(lives[-1], "history")]
        assert [(point["step"], point["train/loss"]) for point in points] == [(s, 1 / s) for s in STEPS]
    tried(sum(map(len, runs)))
