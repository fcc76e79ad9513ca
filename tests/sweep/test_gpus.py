from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sslbench.errors import UserError
from sslbench.sweep import gpus
from sslbench.sweep.gpus import Gpu, chosen, gpu_slot, visible_gpus, workers

UUIDS = {"0": "GPU-aaa", "1": "GPU-bbb", "2": "GPU-ccc"}
A, B = Gpu("0", "GPU-aaa"), Gpu("1", "GPU-bbb")


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, (A, B, Gpu("2", "GPU-ccc"))),
        ("1,0", (B, A)),
        (" 1 ", (B,)),
        ("", ()),
        ("-1", ()),
        ("0,7,1", (A,)),
        ("GPU-ccc", (Gpu("GPU-ccc", "GPU-ccc"),)),
    ],
)
def test_what_cuda_would_see(visible: str | None, expected: tuple[Gpu, ...]) -> None:
    assert chosen(UUIDS, visible) == expected


@pytest.fixture
def two_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = tmp_path / "nvidia-smi"
    driver.write_text("#!/bin/sh\necho '0, GPU-aaa'\necho '1, GPU-bbb'\n")
    driver.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(gpus, "visible_gpus", visible_gpus.__wrapped__)


def test_the_driver_is_asked(two_gpus: None) -> None:
    assert gpus.visible_gpus() == (A, B)
    assert workers("auto", 3) == 6
    assert workers("cpu", 3) == workers("cpu", 1) >= 1


def test_without_a_driver_there_is_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert visible_gpus.__wrapped__() == ()
    with gpu_slot((), 1, pause=lambda: pytest.fail("there is nothing to wait for"), folder=tmp_path) as gpu:
        assert gpu is None


def test_gpus_that_cannot_be_told_apart_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(gpus, "_DRIVER", tmp_path)
    assert visible_gpus.__wrapped__() == ()
    (tmp_path / "0000:01:00.0").mkdir()
    with pytest.raises(UserError, match="set CUDA_VISIBLE_DEVICES, or device=cpu"):
        visible_gpus.__wrapped__()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-ccc")
    assert visible_gpus.__wrapped__() == (Gpu("3", "3"), Gpu("GPU-ccc", "GPU-ccc"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert visible_gpus.__wrapped__() == ()


class TiredError(Exception):
    """Nobody waits for ever in a test."""


def tired() -> None:
    raise TiredError


def test_places_are_taken_breadth_first_and_given_back(tmp_path: Path) -> None:
    def slot() -> object:
        return gpu_slot((A, B), 2, pause=tired, folder=tmp_path)

    with slot() as one, slot() as two, slot() as three:
        assert [one, two, three] == [A, B, A]
        with slot() as four:
            assert four == B
            with pytest.raises(TiredError), slot():
                pass
        with slot() as again:
            assert again == B


def test_a_folder_of_locks_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder" / "GPU-aaa-0.lock").mkdir(parents=True)
    for folder in (tmp_path / "file", tmp_path / "folder"):
        with pytest.raises(UserError) as told, gpu_slot((A,), 1, pause=tired, folder=folder):
            pass
        assert str(folder) in str(told.value)
        assert "TMPDIR" in str(told.value)


HOLD = """
import sys, time
from pathlib import Path
from sslbench.sweep.gpus import Gpu, gpu_slot
with gpu_slot([Gpu("0", "GPU-aaa")], 1, pause=lambda: time.sleep(0.01), folder=Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_killed_process_gives_its_place_back(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        waits = 0

        def kill_it() -> None:
            nonlocal waits
            waits += 1
            other.kill()
            other.wait()

        with gpu_slot([A], 1, pause=kill_it, folder=tmp_path) as gpu:
            assert gpu == A
        assert waits == 1
