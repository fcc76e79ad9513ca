from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from helpers.curves import read_metrics
from sslbench.tracking import FileTracker, RunInfo
from sslbench.tracking.jsonl import latest

MakeRun = Callable[..., RunInfo]


def log_steps(run: RunInfo, steps: range) -> None:
    tracker = FileTracker()
    tracker.start(run)
    for step in steps:
        tracker.log(step, {"train/loss": 1 / step, "images_seen": 64 * step})
    tracker.close("interrupted", None)


def steps_in(path: Path) -> list[int]:
    return [point["step"] for point in read_metrics(path)]


def test_a_point_is_on_the_disk_before_the_run_ends(make_run: MakeRun, tmp_path: Path) -> None:
    tracker = FileTracker()
    tracker.start(make_run())
    tracker.log(10, {"train/loss": 0.25, "val/acc": 0.5, "images_seen": 640})
    tracker.log_image(10, "generated", np.zeros((2, 2, 1), dtype=np.uint8))  # is no number
    text = (tmp_path / "metrics.jsonl").read_text()
    tracker.close("finished", {})
    assert text == '{"step": 10, "images_seen": 640, "train/loss": 0.25, "val/acc": 0.5}\n'


def test_a_resumed_run_begins_with_its_history(make_run: MakeRun, tmp_path: Path) -> None:
    log_steps(make_run(), range(10, 60, 10))
    whole = (tmp_path / "metrics.jsonl").read_bytes()
    history = tuple(read_metrics(tmp_path / "metrics.jsonl")[:3])
    log_steps(make_run(first_step=30, history=history), range(40, 60, 10))
    assert (tmp_path / "metrics.jsonl").read_bytes() == whole
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_a_new_run_starts_a_new_file(make_run: MakeRun, tmp_path: Path) -> None:
    log_steps(make_run(), range(10, 60, 10))
    log_steps(make_run(), range(10, 30, 10))
    assert steps_in(tmp_path / "metrics.jsonl") == [10, 20]


@pytest.mark.parametrize("left", [None, b"", b'{"step": 10, "train/l', b"\0\0\0", b"no\nmetrics\n"])
def test_whatever_is_left_of_the_file(make_run: MakeRun, tmp_path: Path, left: bytes | None) -> None:
    if left is not None:
        (tmp_path / "metrics.jsonl").write_bytes(left)
    history = ({"step": 10, "train/loss": 0.5}, {"step": 20, "train/loss": 0.25, "images_seen": 7})
    log_steps(make_run(first_step=30, history=history), range(40, 60, 10))
    assert steps_in(tmp_path / "metrics.jsonl") == [10, 20, 40, 50]


def test_numbers_that_are_not_finite_become_null(make_run: MakeRun, tmp_path: Path) -> None:
    tracker = FileTracker()
    tracker.start(make_run())
    tracker.log(10, {"a": math.nan, "b": math.inf, "c": -math.inf, "d": 0.5})
    tracker.close("failed", None)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    line = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(line, parse_constant=refuse) == {"step": 10, "a": None, "b": None, "c": None, "d": 0.5}


def test_a_number_that_was_not_finite_is_null_after_a_resume_too(make_run: MakeRun, tmp_path: Path) -> None:
    log_steps(make_run(first_step=10, history=({"step": 10, "train/mask": math.nan},)), range(20, 30, 10))
    assert read_metrics(tmp_path / "metrics.jsonl")[0] == {"step": 10, "train/mask": None}


def test_latest_numbers_near_the_end(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert latest(path) == {}
    lines = [{"step": step, "train/loss": 1 / step} for step in range(1, 1001)]
    lines[-2] |= {"val/acc": 0.5}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 1001, "tra')
    assert latest(path) == {"step": 1000, "train/loss": 0.001, "val/acc": 0.5}
    path.write_bytes(b"\xff\n[1]\n")
    assert latest(path) == {}
