from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from sslbench.errors import UserError
from sslbench.rundir.weights import cpu_copy, load_weights, save_weights


def network(outputs: int = 3) -> nn.Module:
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, outputs))
    return model.to(memory_format=torch.channels_last)


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


def test_absent_weights(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read \S+model\.safetensors: No such file"):
        load_weights(tmp_path / "model.safetensors", network())


@pytest.mark.parametrize("content", [b"", b"not weights", b"\xff" * 100])
def test_damaged_weights(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"model\.safetensors is damaged"):
        load_weights(path, network())
