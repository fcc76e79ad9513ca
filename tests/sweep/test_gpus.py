from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from sslbench.errors import UserError
from sslbench.sweep import gpus
from sslbench.sweep.gpus import GpuSlots, choose_visible, cpu_cores, visible_gpus

UUIDS = {"0": "GPU-aaa", "1": "GPU-bbb", "2": "GPU-ccc"}
A, B, C = UUIDS.values()


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes up an ``nvidia-smi`` that lists GPUs; without any, there is none."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    visible_gpus.cache_clear()

    def listing(*listed: str) -> None:
        program = tmp_path / "nvidia-smi"
        program.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in listed))
        program.chmod(0o755)

    return listing


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, (A, B, C)),
        ("1,0", (B, A)),
        (" 1 ", (B,)),
        ("", ()),
        ("-1", ()),
        ("0,7,1", (A,)),
        ("GPU-ccc", (C,)),
        ("MIG-ddd", ("MIG-ddd",)),
    ],
)
def test_what_cuda_would_see(visible: str | None, expected: tuple[str, ...]) -> None:
    assert choose_visible(UUIDS, visible) == expected


def test_gpus_are_named_by_what_no_order_changes(
    driver: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """CUDA's number 0 is the fastest GPU, that of nvidia-smi the first in the machine."""
    driver("0, GPU-slow", "1, GPU-fast")
    assert visible_gpus() == ("GPU-slow", "GPU-fast")
    visible_gpus.cache_clear()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert visible_gpus() == ("GPU-fast",)


def test_without_a_driver_there_is_no_gpu(driver: Callable[..., None], tmp_path: Path) -> None:
    assert visible_gpus() == ()
    assert len(GpuSlots((), 3, tmp_path)) == 0
    assert GpuSlots((), 3, tmp_path).take() is None


def test_gpus_that_cannot_be_listed_are_an_error(
    driver: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpus, "_DRIVER", tmp_path / "gpus")
    (tmp_path / "gpus" / "0000:01:00.0").mkdir(parents=True)
    with pytest.raises(UserError, match="set CUDA_VISIBLE_DEVICES, or device=cpu"):
        visible_gpus()
    for visible, expected in (("3, GPU-ccc", ("3", "GPU-ccc")), ("-1", ())):
        visible_gpus.cache_clear()
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert visible_gpus() == expected


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("max 100000", 3), ("150000 100000", 2), ("50000 100000", 1), (None, 3)],
)
def test_cores_are_those_of_the_process_and_the_container(
    limit: str | None, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 1, 2}, raising=False)
    monkeypatch.setattr(gpus, "_CPU_LIMIT", tmp_path / "cpu.max")
    if limit is not None:
        (tmp_path / "cpu.max").write_text(f"{limit}\n")
    assert cpu_cores() == expected


def test_places_are_taken_breadth_first_and_given_back(tmp_path: Path) -> None:
    slots, other_sweep = GpuSlots((A, B), 2, tmp_path), GpuSlots((A, B), 2, tmp_path)
    assert len(slots) == 4

    def take(slots: GpuSlots) -> tuple[str, FileLock]:
        place = slots.take()
        assert place is not None
        return place

    one, two, three, four = take(slots), take(other_sweep), take(slots), take(slots)
    assert [gpu for gpu, _ in (one, two, three, four)] == [A, B, A, B]
    assert slots.take() is other_sweep.take() is None
    two[1].release()
    assert take(slots)[0] == B
    assert slots.take() is other_sweep.take() is None
    for _, lock in (one, three, four):
        lock.release()


def test_a_folder_of_locks_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder" / f"{A}-0.lock").mkdir(parents=True)
    for folder in (tmp_path / "file", tmp_path / "folder"):
        with pytest.raises(UserError) as raised:
            GpuSlots((A,), 1, folder).take()
        assert str(folder) in str(raised.value)
        assert "TMPDIR" in str(raised.value)


HOLD = """
import sys
from pathlib import Path
from sslbench.sweep.gpus import GpuSlots
gpu, lock = GpuSlots(["GPU-aaa"], 1, Path(sys.argv[1])).take()
print("held", flush=True)
sys.stdin.read()
"""


def test_a_killed_process_gives_its_place_back(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    slots = GpuSlots((A,), 1, tmp_path)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        assert slots.take() is None
        other.kill()
        other.wait()
        place = slots.take()
    assert place is not None
    assert place[0] == A
    place[1].release()
