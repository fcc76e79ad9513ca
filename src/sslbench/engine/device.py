"""Which device a run trains on, and in which precision."""

import os
import shutil

import torch

from sslbench.config.identity import pick_precision
from sslbench.errors import UserError


def pick_device(device: str) -> torch.device:
    """The device for auto, cpu or cuda; raises `UserError` for cuda where there is none."""
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("device=cuda, but there is no usable CUDA device here: set device=cpu or device=auto")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)


def autocast_type(precision: str) -> torch.dtype | None:
    """The type that forward passes compute in under autocast, or None for float32 throughout."""
    return torch.bfloat16 if pick_precision(precision) == "bf16" else None


def check_fast_paths(graph: bool, compile: bool, device: torch.device) -> None:
    """Raise `UserError` for `graph` without CUDA, or `compile` without a compiler."""
    if graph and device.type != "cuda":
        raise UserError("graph=true is for CUDA devices: leave it off")
    if compile and not shutil.which(os.environ.get("CXX") or "g++"):  # those that torch.compile looks for
        raise UserError("compile=true needs a C++ compiler, g++ or $CXX: install one, or leave it off")


def device_name(device: torch.device) -> str:
    """The name of the device, for the result."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
