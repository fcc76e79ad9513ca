"""Checkpoints that were damaged, or belong to something else."""

from __future__ import annotations

import json
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers import forked
from sslbench.config.schema import Settings
from sslbench.errors import UserError
from sslbench.run.train import run
from sslbench.rundir.checkpoint import load_checkpoint, save_checkpoint
from sslbench.tracking import Fanout

MakeSettings = Callable[..., Settings]
Tried = Callable[[int], None]
WORDS = ("algorithm=mean_teacher", "checkpoint_every=2", "threads=1")
STEP = 5


class Stopped:
    """A run that was stopped after `STEP` steps, to be copied, what it ends with, and another run."""

    def __init__(self, settings_of: MakeSettings, folder: Path) -> None:
        self._settings_of, self._folder = settings_of, folder
        self.left = self._stop("left")
        self.other = self._stop("other", "seed=1")
        shutil.copytree(self.left, folder / "whole")
        run(self._settings("whole"))
        self.expected = forked.outcome(folder / "whole")

    def _settings(self, name: str, *words: str) -> Settings:
        settings = self._settings_of(*WORDS, *words, f"run_dir={self._folder / name}")
        settings.overrides = []  # which end up in the result
        return settings

    def _stop(self, name: str, *words: str) -> Path:
        settings = self._settings(name, *words)

        def advance(self: Fanout, step: int) -> None:
            if step == STEP:
                signal.raise_signal(signal.SIGTERM)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Fanout, "advance", advance)
            with pytest.raises(KeyboardInterrupt):
                run(settings)
        return self._folder / name

    def after(self, *damages: Callable[[Path], object]) -> Path:
        """A copy, with its last checkpoint (and the one before) damaged."""
        copy = self._folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.left, copy)
        for name, damage in zip(("last.pt", "previous.pt"), damages, strict=False):
            damage(copy / "checkpoint" / name)
        return copy

    def go_on(self, copy: Path) -> None:
        """Go on with it."""
        run(self._settings(copy.name))


@pytest.fixture
def stopped(settings_of: MakeSettings, tmp_path: Path) -> Stopped:
    return Stopped(settings_of, tmp_path)


def flip_a_bit(path: Path, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def cut_off(path: Path, chance: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: chance.randrange(len(content))])


def other_version(path: Path) -> None:
    save_checkpoint(path, load_checkpoint(path) | {"format": 0})


@pytest.mark.fault(
    "the last checkpoint truncated, or one bit of it flipped, at random places",
    "refused with the reason; goes on from the one before, and ends equal bit for bit",
)
@pytest.mark.parametrize("damage", [flip_a_bit, cut_off])
def test_damaged(
    stopped: Stopped,
    thorough: bool,
    tried: Tried,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Path, random.Random], None],
) -> None:
    chance, times = random.Random(5), 40 if thorough else 4
    for _ in range(times):
        copy = stopped.after(lambda path: damage(path, chance))
        capsys.readouterr()
        stopped.go_on(copy)
        [line] = capsys.readouterr().err.splitlines()
        assert "last.pt is damaged" in line
        assert line.endswith("continuing from the one before, of step 4")
        assert forked.outcome(copy) == stopped.expected
    tried(times)


@pytest.mark.fault(
    "the last checkpoint from another version, or of another configuration",
    "refused with the reason; goes on from the one before, and ends equal bit for bit",
)
@pytest.mark.parametrize(("kind", "reason"), [("version", "another version"), ("run", "is of another run")])
def test_foreign(stopped: Stopped, capsys: pytest.CaptureFixture[str], kind: str, reason: str) -> None:
    def replace(path: Path) -> None:
        if kind == "version":
            other_version(path)
        else:
            shutil.copy(stopped.other / "checkpoint" / "last.pt", path)

    copy = stopped.after(replace)
    capsys.readouterr()
    stopped.go_on(copy)
    [line] = capsys.readouterr().err.splitlines()
    assert f"last.pt {reason}" in line or reason in line
    assert forked.outcome(copy) == stopped.expected


@pytest.mark.fault(
    "both checkpoints damaged or from another version",
    "refused in one line that says why and what to do; no file is touched",
)
def test_nothing_sound_left(stopped: Stopped, tried: Tried) -> None:
    def empty(path: Path) -> None:
        path.write_bytes(b"")

    for damages, reason in (
        ((empty, empty), "is damaged"),
        ((other_version, other_version), "was written by another version"),
        ((lambda path: cut_off(path, random.Random(1)), Path.unlink), "is damaged"),
    ):
        copy = stopped.after(*damages)
        before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
        with pytest.raises(UserError, match=rf"last\.pt {reason}.*; or delete \S+ to start again") as caught:
            stopped.go_on(copy)
        assert "\n" not in str(caught.value)
        assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before
        assert json.loads((copy / "status.json").read_text())["status"] == "interrupted"
    tried(3)


@pytest.mark.fault(
    "metrics.jsonl deleted, emptied, torn or filled with something else",
    "rebuilt from the checkpoint: no line twice, none missing",
)
def test_curves_are_rebuilt(stopped: Stopped, tried: Tried) -> None:
    damages: list[Callable[[Path], object]] = [
        Path.unlink,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-20]),
        lambda path: path.write_bytes(b"\xff\0{" * 1000),
        lambda path: path.write_bytes(path.read_bytes() * 3),
    ]
    for damage in damages:
        copy = stopped.after()
        damage(copy / "metrics.jsonl")
        stopped.go_on(copy)
        assert forked.outcome(copy) == stopped.expected
    tried(len(damages))
