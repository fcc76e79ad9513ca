from __future__ import annotations

import shutil

import pytest
import torch

from sslbench.config.identity import pick_precision
from sslbench.engine.device import (
    autocast_type,
    check_fast_paths,
    device_name,
    pick_device,
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


@pytest.mark.parametrize(("asked", "picked"), [("auto", "fp32"), ("fp32", "fp32"), ("bf16", "bf16")])
def test_precision(asked: str, picked: str) -> None:
    assert pick_precision(asked) == picked
    assert autocast_type(asked) is (torch.bfloat16 if picked == "bf16" else None)


def test_fast_paths_that_cannot_be_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    check_fast_paths(graph=True, compile=False, device=CUDA)
    with pytest.raises(UserError, match="graph=true is for CUDA devices: leave it off"):
        check_fast_paths(graph=True, compile=False, device=CPU)
    monkeypatch.setattr(shutil, "which", lambda name: name if name in ("g++", "my-c++") else None)
    monkeypatch.delenv("CXX", raising=False)
    check_fast_paths(graph=False, compile=True, device=CPU)
    for name, found in (("my-c++", True), ("absent", False)):
        monkeypatch.setenv("CXX", name)
        if found:
            check_fast_paths(graph=False, compile=True, device=CPU)
        else:
            with pytest.raises(UserError, match=r"compile=true needs a C\+\+ compiler.* leave it off"):
                check_fast_paths(graph=False, compile=True, device=CPU)
    check_fast_paths(graph=False, compile=False, device=CPU)


def test_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert device_name(CPU) == "cpu"
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"the GPU {device}")
    assert device_name(CUDA) == "the GPU cuda"
