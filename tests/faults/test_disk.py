"""Disks that fill up, folders that cannot be written, and clocks that go wrong."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from helpers import forked
from sslbench.config.schema import Settings
from sslbench.rundir.checkpoint import load_checkpoint

MakeSettings = Callable[..., Settings]
Tried = Callable[[int], None]
WORDS = (
    "algorithm=mean_teacher",
    "steps=6",
    "eval_every=3",
    "log_every=1",
    "checkpoint_every=2",
    "threads=1",
)


@pytest.mark.thorough
@pytest.mark.fault(
    "a disk that is full from some moment on: while a checkpoint, a metric line, a result or any other file "
    "is written (a limit on the size of files)",
    "one line says so, nothing written before is lost, and the same command ends equal bit for bit",
)
@pytest.mark.parametrize("left", [0, pytest.param(300, marks=pytest.mark.thorough)])
def test_full(settings_of: MakeSettings, tmp_path: Path, thorough: bool, tried: Tried, left: int) -> None:
    whole = settings_of(*WORDS, f"run_dir={tmp_path / 'whole'}")
    assert forked.run(whole, partial(forked.count_renamings, tmp_path / "count")) == (0, "")
    expected = forked.outcome(tmp_path / "whole")
    renamings = int((tmp_path / "count").read_text())
    # Nothing is written after the last but one: that the run is finished is in the last.
    numbers = range(1, renamings) if thorough else (2, renamings // 2)
    for number in numbers:
        folder = tmp_path / f"full after {number}"
        full = settings_of(*WORDS, f"run_dir='{folder}'")
        code, told = forked.run(full, partial(forked.full_after_renaming, number, left))
        if code == 0:  # what was still to be written fitted
            assert left
        else:
            assert (code, len(told.splitlines())) == (1, 1), told
            assert "File too large" in told
            assert not (folder / "result.json").exists() or number >= renamings - 1
        forked.whole_files(folder)
        assert forked.run(full) == (0, "")
        found = forked.outcome(folder)
        assert found == expected | {"result": expected["result"] | {"overrides": full.overrides}}
    tried(len(numbers))


@pytest.fixture
def writable_again(tmp_path: Path) -> Iterator[None]:
    yield
    for folder in [tmp_path, *tmp_path.rglob("*")]:
        if folder.is_dir():
            folder.chmod(0o755)


@pytest.mark.thorough
@pytest.mark.fault(
    "an output folder that turns read-only while a run trains in it",
    "one line says so, what was written stays, and the same command goes on once it can be written",
)
@pytest.mark.usefixtures("writable_again")
def test_turned_read_only(settings_of: MakeSettings, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    words = ("steps=100000", "eval_every=1000", "checkpoint_every=50", "threads=1", f"run_dir={folder}")
    settings = settings_of(*words)
    process, hears = forked.start(settings, forked.without_privileges)
    last = folder / "checkpoint" / "last.pt"
    end = time.monotonic() + 60
    while not last.exists():
        assert time.monotonic() < end
        time.sleep(0.02)
    for path in (last.parent, folder):
        path.chmod(0o555)
    code, told = forked.finish(process, hears)
    assert (code, len(told.splitlines())) == (1, 1), told
    assert "Permission denied" in told
    assert f"{folder}" in told
    forked.whole_files(folder)
    step = load_checkpoint(last)["step"]
    assert step >= 50

    code, told = forked.run(settings, forked.without_privileges)
    assert (code, len(told.splitlines())) == (1, 1), told
    assert "Permission denied" in told
    for path in (folder, last.parent):
        path.chmod(0o755)
    process, hears = forked.start(settings, forked.without_privileges)
    while load_checkpoint(last)["step"] <= step:
        assert time.monotonic() < end
        time.sleep(0.1)
    process.terminate()
    assert forked.finish(process, hears) == (143, "")
    assert json.loads((folder / "status.json").read_text())["status"] == "interrupted"


@pytest.mark.thorough
@pytest.mark.fault(
    "a clock that is set back by an hour whenever it is looked at, and files dated a year ahead",
    "the run goes on from its checkpoint, and ends equal bit for bit",
)
def test_clock_set_back(settings_of: MakeSettings, tmp_path: Path) -> None:
    whole = settings_of(*WORDS, f"run_dir={tmp_path / 'whole'}")
    assert forked.run(whole) == (0, "")
    settings = settings_of(*WORDS, f"run_dir={tmp_path / 'run'}")
    forked.run(settings, partial(forked.kill_before_renaming, 8))
    assert load_checkpoint(tmp_path / "run" / "checkpoint" / "last.pt")["step"] < 6
    for path in (tmp_path / "run").rglob("*"):
        os.utime(path, (time.time() + 365 * 86400,) * 2)
    assert forked.run(settings, forked.clock_runs_backwards) == (0, "")
    expected, found = forked.outcome(tmp_path / "whole"), forked.outcome(tmp_path / "run")
    expected["result"]["overrides"] = settings.overrides
    assert found == expected
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert 0 < result["train_seconds"] < 60
