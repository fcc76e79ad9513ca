"""SIGKILL: at any moment, and between any two steps of writing a file."""

from __future__ import annotations

import random
import shutil
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from helpers import forked
from sslbench.config.schema import Settings

MakeSettings = Callable[..., Settings]
Tried = Callable[[int], None]


@pytest.mark.fault(
    "SIGKILL at a random moment of a run, again and again",
    "the same command goes on, and ends equal bit for bit to an undisturbed run",
)
@pytest.mark.parametrize(
    "algorithm", ["mean_teacher", pytest.param("self_training", marks=pytest.mark.thorough)]
)
def test_killed_at_random_moments(
    settings_of: MakeSettings, tmp_path: Path, thorough: bool, tried: Tried, algorithm: str
) -> None:
    words = (f"algorithm={algorithm}", "model.dropout=0.2", "eval_every=100", "log_every=25")
    words += ("steps=500" if thorough else "steps=100", "checkpoint_every=10", "threads=1")
    whole, killed = (settings_of(*words, f"run_dir={tmp_path / name}") for name in ("whole", "killed"))
    assert forked.run(whole) == (0, "")
    expected = forked.outcome(tmp_path / "whole")
    expected["result"]["overrides"] = killed.overrides
    moments, kills, ends = random.Random(algorithm), 0, 0
    while kills < (25 if thorough else 2) or not ends:
        process, hears = forked.start(killed)
        process.join(moments.uniform(0, 1.0) if kills < 25 else None)
        if process.exitcode is None:
            process.kill()
        code, told = forked.finish(process, hears)
        assert code in (0, -signal.SIGKILL), told
        kills += code == -signal.SIGKILL
        forked.whole_files(tmp_path / "killed")
        if (tmp_path / "killed" / "result.json").exists():
            assert forked.run(killed) == (0, "")  # which writes the status, should that be missing
            assert forked.outcome(tmp_path / "killed") == expected
            shutil.rmtree(tmp_path / "killed")
            ends += 1
    tried(kills)


@pytest.mark.thorough
@pytest.mark.fault(
    "SIGKILL between writing a file and renaming it, and right after, for every file that a run writes",
    "no half-written file under its name; the same command ends equal bit for bit to an undisturbed run",
)
@pytest.mark.parametrize("sabotage", [forked.kill_before_renaming, forked.kill_after_renaming])
def test_killed_at_every_renaming(
    settings_of: MakeSettings,
    tmp_path: Path,
    thorough: bool,
    tried: Tried,
    sabotage: Callable[[int], None],
) -> None:
    words = ("algorithm=mean_teacher", "steps=6", "eval_every=3", "checkpoint_every=2", "threads=1")
    whole = settings_of(*words, f"run_dir={tmp_path / 'whole'}")
    assert forked.run(whole, partial(forked.count_renamings, tmp_path / "count")) == (0, "")
    expected = forked.outcome(tmp_path / "whole")
    renamings = int((tmp_path / "count").read_text())
    assert renamings >= 10
    numbers = range(1, renamings + 1) if thorough else (renamings // 2, renamings - 1)
    for number in numbers:
        folder = tmp_path / f"killed at {number}"
        killed = settings_of(*words, f"run_dir='{folder}'")
        assert forked.run(killed, partial(sabotage, number)) == (-signal.SIGKILL, "")
        forked.whole_files(folder)
        assert forked.run(killed) == (0, "")
        found = forked.outcome(folder)
        assert found == expected | {"result": expected["result"] | {"overrides": killed.overrides}}
    tried(len(numbers))
