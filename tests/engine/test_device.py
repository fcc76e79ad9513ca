from __future__ import annotations

import shutil

import pytest
import torch

from sslbench.engine.device import (
    autocast_type,
    check_fast_paths,
    device_name,
    pick_device,
    pick_precision,
)
from sslbench.errors import UserError

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def set_cuda(monkeypatch: pytest.MonkeyPatch, available: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)


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
    ("asked", "device", "picked"),
    [
        ("auto", CUDA, "fp32"),  # until the others have been tried on one
        ("auto", CPU, "fp32"),
        ("fp32", CUDA, "fp32"),
        ("tf32", CUDA, "tf32"),
        ("bf16", CUDA, "bf16"),
        ("bf16", CPU, "bf16"),
    ],
)
def test_precision(asked: str, device: torch.device, picked: str) -> None:
    assert pick_precision(asked, device) == picked
    assert autocast_type(asked, device) is (torch.bfloat16 if picked == "bf16" else None)


def test_precision_that_a_cpu_has_not() -> None:
    with pytest.raises(UserError, match=r"precision=tf32 .*set precision=fp32"):
        pick_precision("tf32", CPU)


def test_fast_paths_that_cannot_be_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    check_fast_paths(graph=True, compile=False, device=CUDA)
    with pytest.raises(UserError, match="graph=true is for CUDA devices: leave it off"):
        check_fast_paths(graph=True, compile=False, device=CPU)
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/g++" if name == "g++" else None)
    check_fast_paths(graph=False, compile=True, device=CPU)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    check_fast_paths(graph=False, compile=False, device=CPU)
    with pytest.raises(UserError, match=r"compile=true needs a C\+\+ compiler.* leave it off"):
        check_fast_paths(graph=False, compile=True, device=CPU)


def test_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert device_name(CPU) == "cpu"
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"the GPU {device}")
    assert device_name(CUDA) == "the GPU cuda"
