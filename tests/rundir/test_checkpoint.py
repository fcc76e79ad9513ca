from __future__ import annotations

import hashlib
import io
import pickle
import re
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from sslbench.config.intervals import Interval
from sslbench.errors import UserError
from sslbench.rundir.checkpoint import FORMAT, Checkpoints, Origin, load_checkpoint, save_checkpoint
from sslbench.rundir.weights import save_weights


def last(tmp_path: Path) -> Path:
    """Where a run keeps its checkpoint: two levels below which the run's folder is."""
    return tmp_path / "run" / "checkpoint" / "last.pt"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return last(tmp_path)


STATE: dict[str, Any] = {
    "step": 7,
    "models": {"student": {"weight": torch.arange(6.0).reshape(2, 3)}},
    "score": {"test_history": [0.1, 0.2], "best_weights": {}},
    "chance_cuda": None,
}


def test_checkpoint_comes_back(path: Path) -> None:
    save_checkpoint(path, STATE)
    save_checkpoint(path, STATE | {"step": 8})  # over the older one, in a folder that is there by now
    loaded = load_checkpoint(path)
    assert loaded["step"] == 8
    assert torch.equal(loaded["models"]["student"]["weight"], STATE["models"]["student"]["weight"])
    assert loaded["score"] == STATE["score"]
    assert loaded["chance_cuda"] is None
    assert [file.name for file in path.parent.iterdir()] == ["last.pt"]


def test_a_failing_write_keeps_the_old_checkpoint(path: Path) -> None:
    save_checkpoint(path, STATE)
    old = path.read_bytes()
    with pytest.raises((AttributeError, pickle.PicklingError)):
        save_checkpoint(path, {"large": torch.zeros(10_000), "cannot be pickled": lambda: None})
    assert path.read_bytes() == old
    assert [file.name for file in path.parent.iterdir()] == ["last.pt"]


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda whole: whole[: len(whole) // 2], id="cut off"),
        pytest.param(lambda whole: whole[:-1], id="last byte missing"),
        pytest.param(lambda whole: b"", id="empty"),
        pytest.param(lambda whole: bytes(len(whole)), id="zeros"),
        pytest.param(lambda whole: whole[: len(whole) // 2] + bytes(len(whole) // 2), id="half zeros"),
        pytest.param(
            lambda whole: b"hello world\n",
            id="text",
        ),
    ],
)
def test_damaged_checkpoint(path: Path, damage: Callable[[bytes], bytes]) -> None:
    save_checkpoint(path, STATE)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=r"last\.pt is damaged"):
        load_checkpoint(path)


def test_another_file_of_torch_is_no_checkpoint(path: Path) -> None:
    path.parent.mkdir()
    torch.save({"step": 7}, path)
    with pytest.raises(UserError, match="damaged"):
        load_checkpoint(path)
    sign(path, [1, 2])
    with pytest.raises(UserError, match="not written by sslbench"):
        load_checkpoint(path)


def sign(path: Path, content: Any) -> None:
    """Write anything with the checksum that a checkpoint has."""
    save_checkpoint(path, {})
    kept = io.BytesIO()
    torch.save(content, kept)
    archive = kept.getvalue()
    path.write_bytes(archive[:-2] + b"\x40\0" + hashlib.sha256(archive).hexdigest().encode())


def test_torch_itself_reads_a_checkpoint(path: Path) -> None:
    save_checkpoint(path, STATE)
    loaded = torch.load(path, weights_only=True)
    assert torch.equal(loaded["models"]["student"]["weight"], STATE["models"]["student"]["weight"])


class Code:
    """Touches a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.target,)


@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_code_in_a_checkpoint_is_refused_and_not_run(path: Path, tmp_path: Path, how: str) -> None:
    path.parent.mkdir()
    target = tmp_path / "ran"
    if how == "torch":
        sign(path, {"step": Code(target)})
    else:
        path.write_bytes(pickle.dumps({"step": Code(target)}, protocol=2))
    with pytest.raises(UserError, match="damaged"):
        load_checkpoint(path)
    assert not target.exists()
    torch.load(path, weights_only=False) if how == "torch" else pickle.loads(path.read_bytes())
    assert target.exists(), "the file held no code, so that the test shows nothing"


@pytest.fixture
def full_disk() -> Iterator[None]:
    """No file of this process may grow beyond 1,000 bytes, as on a disk that is full."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.usefixtures("full_disk")
@pytest.mark.parametrize("write", [save_checkpoint, save_weights])
def test_no_room_is_an_error_of_the_system_and_leaves_nothing(
    tmp_path: Path, write: Callable[[Path, dict[str, torch.Tensor]], None]
) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(OSError, match="File too large"):
        write(tmp_path / "run" / "file", {"weight": torch.zeros(10_000)})
    assert list((tmp_path / "run").iterdir()) == []


ORIGIN = Origin("mlp-s0-12345678", "5711", "cpu")
OFTEN = Interval(steps=1)


@pytest.fixture
def kept(path: Path) -> Checkpoints:
    """Checkpoints of steps 1 and 2 in `path` and beside it."""
    checkpoints = Checkpoints(path.parent, ORIGIN, OFTEN)
    for step in (1, 2):
        checkpoints.save({"step": step})
    return checkpoints


def found(path: Path, origin: Origin = ORIGIN) -> tuple[int, str] | None:
    loaded = Checkpoints(path.parent, origin, OFTEN).load()
    return loaded and (loaded[0]["step"], loaded[1])


def test_no_checkpoint(path: Path) -> None:
    assert found(path) is None


def test_the_last_and_the_one_before_are_kept(kept: Checkpoints, path: Path) -> None:
    assert found(path) == (2, "")
    kept.save({"step": 3})
    assert sorted(file.name for file in path.parent.iterdir()) == ["last.pt", "previous.pt"]
    assert [load_checkpoint(path.with_name(f"{name}.pt"))["step"] for name in ("previous", "last")] == [2, 3]


def flipped(content: bytes, bit: int) -> bytes:
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def damage(path: Path) -> None:
    path.write_bytes(flipped(path.read_bytes(), 8 * path.stat().st_size // 3))


def test_the_one_before_helps_out(kept: Checkpoints, path: Path) -> None:
    damage(path)
    checkpoints = Checkpoints(path.parent, ORIGIN, OFTEN)
    loaded = checkpoints.load()
    assert loaded is not None
    assert loaded[0]["step"] == 1
    assert "last.pt is damaged" in loaded[1]
    assert loaded[1].endswith("continuing from the one before, of step 1")
    # The damaged one must not take the place of the sound one.
    checkpoints.save({"step": 2})
    assert [load_checkpoint(path.with_name(f"{name}.pt"))["step"] for name in ("previous", "last")] == [1, 2]


def test_killed_between_the_two_renamings(kept: Checkpoints, path: Path) -> None:
    path.unlink()
    assert found(path) == (1, "")


def test_nothing_left_to_go_on_from(kept: Checkpoints, path: Path) -> None:
    damage(path)
    damage(path.with_name("previous.pt"))
    with pytest.raises(UserError, match=r"last\.pt is damaged.*; or delete \S+/run to start again"):
        found(path)


@pytest.mark.parametrize(
    ("origin", "told"),
    [
        (
            Origin("mlp-s1-87654321", "5711", "cpu"),
            "is of another run (mlp-s0-12345678, not mlp-s1-87654321)",
        ),
        (Origin("mlp-s0-12345678", "1175", "cpu"), "the data have changed since"),
        (Origin("mlp-s0-12345678", "5711", "cuda"), "was made on cpu: set device=cpu to continue"),
    ],
)
def test_of_something_else(kept: Checkpoints, path: Path, origin: Origin, told: str) -> None:
    with pytest.raises(UserError, match=re.escape(told)):
        found(path, origin)


@pytest.mark.parametrize(
    ("form", "origin"),
    [*((form, vars(ORIGIN)) for form in (None, FORMAT + 1, "1", True, torch.zeros(3))), (FORMAT, 5)],
)
def test_of_another_version(kept: Checkpoints, path: Path, form: object, origin: object) -> None:
    save_checkpoint(path, {"step": 3, "format": form, "origin": origin})
    step, told = found(path) or (0, "")
    assert step == 1
    assert "last.pt was written by another version of sslbench; continuing from the one before" in told


def test_steps_between_checkpoints(path: Path) -> None:
    checkpoints = Checkpoints(path.parent, ORIGIN, Interval(steps=3))
    assert [step for step in range(1, 10) if checkpoints.due(step)] == [3, 6, 9]


def test_seconds_between_checkpoints(path: Path) -> None:
    now = 100.0
    checkpoints = Checkpoints(path.parent, ORIGIN, Interval(seconds=60), lambda: now)
    assert not checkpoints.due(1)
    now += 60
    assert checkpoints.due(2)
    checkpoints.save({"step": 2})
    now += 59
    assert not checkpoints.due(3)
    now += 1
    assert checkpoints.due(3)


def test_a_slow_disk_stretches_the_seconds(path: Path) -> None:
    ticks = iter([0.0, 100.0, 103.0, 100.0 + 299, 103.0 + 300])
    checkpoints = Checkpoints(path.parent, ORIGIN, Interval(seconds=60), lambda: next(ticks))
    checkpoints.save({"step": 1})  # takes 3 s
    assert [checkpoints.due(2), checkpoints.due(3)] == [False, True]
