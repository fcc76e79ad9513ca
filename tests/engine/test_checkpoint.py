from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sslbench.engine.checkpoint import (
    cpu_copy,
    load_checkpoint,
    load_weights,
    save_checkpoint,
    save_weights,
)
from sslbench.errors import UserError


def network(outputs: int = 3) -> nn.Module:
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, outputs))
    return model.to(memory_format=torch.channels_last)


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
    with pytest.raises(UserError, match=r"last\.pt is damaged .* delete \S+run to start again"):
        load_checkpoint(path)


def test_another_file_of_torch_is_no_checkpoint(path: Path) -> None:
    path.parent.mkdir()
    torch.save([1, 2], path)
    with pytest.raises(UserError):
        load_checkpoint(path)


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
        torch.save({"step": Code(target)}, path)
    else:
        path.write_bytes(pickle.dumps({"step": Code(target)}, protocol=2))
    with pytest.raises(UserError, match="damaged"):
        load_checkpoint(path)
    assert not target.exists()
    torch.load(path, weights_only=False) if how == "torch" else pickle.loads(path.read_bytes())
    assert target.exists(), "the file held no code, so that the test shows nothing"


def test_weights_come_back(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, other = network(), network()
    model(torch.randn(5, 2, 3, 3))  # moves the running statistics
    save_weights(tmp_path / "model.safetensors", cpu_copy(model))
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]
    load_weights(tmp_path / "model.safetensors", other)
    for name, value in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name
    model.eval()
    other.eval()
    images = torch.randn(5, 2, 3, 3)
    assert torch.equal(model(images), other(images))


def test_copy_stays_when_the_model_trains_on() -> None:
    model = network()
    copy = cpu_copy(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        for value in model.state_dict().values():
            value.add_(1)
    assert set(copy) == set(before)
    for name, value in copy.items():
        assert torch.equal(value, before[name])
        assert value.is_contiguous()
        assert not value.requires_grad


def test_tied_weights_are_saved(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    save_weights(tmp_path / "model.safetensors", cpu_copy(model))
    load_weights(tmp_path / "model.safetensors", model)


def test_weights_of_another_network(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_weights(path, cpu_copy(network(3)))
    message = r"model\.safetensors does not hold the weights of this run's model \(.+\)"
    for other in (network(4), nn.Linear(2, 2)):
        with pytest.raises(UserError, match=message) as caught:
            load_weights(path, other)
        assert "\n" not in str(caught.value)


def test_message_says_what_differs(tmp_path: Path) -> None:
    save_weights(tmp_path / "model.safetensors", cpu_copy(network(3)))
    with pytest.raises(UserError, match=r"3\.weight"):
        load_weights(tmp_path / "model.safetensors", network(4))


@pytest.mark.parametrize("content", [None, b"", b"not weights", b"\xff" * 100])
def test_absent_or_damaged_weights(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "model.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"model\.safetensors does not hold the weights"):
        load_weights(path, network())


@pytest.mark.parametrize("writer", ["save_checkpoint", "save_weights"])
def test_no_room_is_an_error_of_the_system_and_leaves_nothing(tmp_path: Path, writer: str) -> None:
    script = f"""
import resource, signal, sys
from pathlib import Path
import torch
from sslbench.engine.checkpoint import {writer}
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    {writer}(Path(sys.argv[1]) / "run" / "file", {{"weight": torch.zeros(10_000)}})
except OSError as error:
    print(error.strerror)
"""
    (tmp_path / "run").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "File too large", done.stderr
    assert list((tmp_path / "run").iterdir()) == []
