"""Which device a run trains on, and in which precision."""

from __future__ import annotations

import torch

from sslbench.errors import UserError


def pick_device(device: str) -> torch.device:
    """The device that `device`, one of auto, cpu, cuda, stands for.

    Raises:
        UserError: cuda is asked for and not there.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("device=cuda, but there is no usable CUDA device here: set device=cpu or device=auto")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)


def pick_precision(precision: str, device: torch.device) -> torch.dtype | None:
    """The type that forward passes compute in under autocast, or None for float32 throughout.

    ``auto`` is bfloat16 where the GPU has units for it; CPUs without such units are slower with it.
    """
    if precision == "auto":
        precision = "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported(False) else "fp32"
    return torch.bfloat16 if precision == "bf16" else None


def device_name(device: torch.device) -> str:
    """The device in words, for the result."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
