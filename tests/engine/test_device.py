from __future__ import annotations

import pytest
import torch

from sslbench.engine.device import device_name, pick_device, pick_precision
from sslbench.errors import UserError

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def set_cuda(monkeypatch: pytest.MonkeyPatch, available: bool, bfloat16: bool = False) -> None:
    def is_bf16_supported(including_emulation: bool = True) -> bool:
        return bfloat16 or including_emulation

    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", is_bf16_supported)


@pytest.mark.parametrize(
    ("asked", "available", "picked"),
    [
        ("auto", True, "cuda"),
        ("auto", False, "cpu"),
        ("cpu", True, "cpu"),
        ("cpu", False, "cpu"),
        ("cuda", True, "cuda"),
    ],
)
def test_device(asked: str, available: bool, picked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    set_cuda(monkeypatch, available)
    assert pick_device(asked).type == picked


def test_cuda_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    set_cuda(monkeypatch, available=False)
    with pytest.raises(UserError, match=r"device=cuda, but .*set device=cpu or device=auto"):
        pick_device("cuda")


@pytest.mark.parametrize(
    ("asked", "device", "bfloat16", "picked"),
    [
        ("auto", CPU, True, None),
        ("auto", CUDA, True, torch.bfloat16),
        ("auto", CUDA, False, None),  # emulated bfloat16 is slower than float32
        ("fp32", CUDA, True, None),
        ("bf16", CUDA, False, torch.bfloat16),
        ("bf16", CPU, False, torch.bfloat16),
        ("fp32", CPU, False, None),
    ],
)
def test_precision(
    asked: str,
    device: torch.device,
    bfloat16: bool,
    picked: torch.dtype | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_cuda(monkeypatch, available=True, bfloat16=bfloat16)
    assert pick_precision(asked, device) is picked


def test_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert device_name(CPU) == "cpu"
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"the GPU {device}")
    assert device_name(CUDA) == "the GPU cuda"
