"""Whoever watches a run goes away: the reader of its output, and the terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import shlex
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from sslbench.rundir.checkpoint import load_checkpoint

WORDS = ["model=mlp", "model.hidden=[16]", "logger=none", "device=cpu", "threads=1", "run_dir=run"]


@pytest.mark.fault("the reader of the output goes away (| head -1)", "the run goes on, and finishes")
def test_nobody_reads(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "sslbench", *WORDS, "steps=12", "eval_every=2"]
    line = f"set -o pipefail; {shlex.join(words)} | head -1"
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads((tmp_path / "run" / "status.json").read_text())["status"] == "finished"
    assert (tmp_path / "run" / "result.json").exists()


@pytest.mark.thorough
@pytest.mark.fault(
    "the terminal of a run is lost", "interrupted with a checkpoint of the step it was in, exit code 129"
)
def test_the_terminal_is_lost(tmp_path: Path) -> None:
    ours, its = pty.openpty()

    def take_the_terminal() -> None:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    words = [*WORDS, "steps=1000000", "eval_every=1000000", "log_every=20", "checkpoint_every=1000s"]
    process = subprocess.Popen(
        [sys.executable, "-m", "sslbench", *words],
        cwd=tmp_path,
        stdin=its,
        stdout=its,
        stderr=its,
        preexec_fn=take_the_terminal,
    )
    os.close(its)
    curves, end = tmp_path / "run" / "metrics.jsonl", time.monotonic() + 100
    try:
        while not (curves.exists() and curves.stat().st_size):
            assert time.monotonic() < end
            time.sleep(0.05)
        os.close(ours)
        assert process.wait(60) == 129
    finally:
        process.kill()
    assert json.loads((tmp_path / "run" / "status.json").read_text())["status"] == "interrupted"
    state = load_checkpoint(tmp_path / "run" / "checkpoint" / "last.pt")
    assert len(state["history"]) == len(curves.read_text().splitlines())
