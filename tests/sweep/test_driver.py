"""Workers end with the sweep that started them, whatever they are doing."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sslbench.sweep.driver import DRIVER, driver

WORKER = """
import sys, time
from pathlib import Path
from sslbench.sweep.driver import end_with

end_with(int(sys.argv[1]))
end_with(int(sys.argv[1]))
Path("waits").touch()
time.sleep(60)
Path("outlived").touch()
"""
SWEEP = """
import os, subprocess, sys, time

subprocess.Popen([sys.executable, "worker.py", str(os.getpid())], stdout=sys.stdout)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def _scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("worker.py").write_text(WORKER)
    Path("sweep.py").write_text(SWEEP)


@pytest.mark.parametrize(
    ("value", "expected"), [(None, None), ("", None), ("12", 12), ("-1", None), ("x", None)]
)
def test_who_the_driver_is(value: str | None, expected: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    if value is None:
        monkeypatch.delenv(DRIVER, raising=False)
    else:
        monkeypatch.setenv(DRIVER, value)
    assert driver() == expected


def test_a_worker_ends_with_its_sweep() -> None:
    read, write = os.pipe()
    with subprocess.Popen([sys.executable, "sweep.py"], stdout=write) as sweep:
        os.close(write)
        end = time.monotonic() + 60
        while not Path("waits").exists() and time.monotonic() < end:
            time.sleep(0.05)
        sweep.kill()
    # The worker holds the other end of the pipe as long as it lives.
    assert os.read(read, 1) == b""
    os.close(read)
    assert Path("waits").exists()
    assert not Path("outlived").exists()


def test_a_worker_whose_sweep_is_gone_already_ends_at_once() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    done = subprocess.run([sys.executable, "worker.py", str(gone.pid)], check=False)
    assert done.returncode == 1
    assert not Path("outlived").exists()
