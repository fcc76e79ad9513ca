"""Checkpoints: all that resuming needs in one file, and the chosen weights in another."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from sslbench.errors import UserError
from sslbench.files import write_atomically


def cpu_copy(model: nn.Module) -> dict[str, Tensor]:
    """The weights and buffers of `model`, copied to the CPU in the plain memory layout."""
    return {
        name: value.detach().to("cpu", copy=True).contiguous() for name, value in model.state_dict().items()
    }


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write `state` so that a process killed at any moment leaves a whole checkpoint, old or new.

    Raises:
        OSError: the disk is full or the folder not writable.
    """
    path.parent.mkdir(exist_ok=True)
    # By way of memory: torch's own writer hides a full disk behind an error about positions.
    memory = io.BytesIO()
    torch.save(dict(state), memory)
    write_atomically(path, lambda part: part.write_bytes(memory.getbuffer()))


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote, without executing anything in it.

    Raises:
        UserError: the file is damaged or holds something other than a checkpoint.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict):
            raise ValueError("not a checkpoint")
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, LookupError) as error:
        raise UserError(
            f"{path} is damaged and the run cannot go on from it: delete {path.parent.parent} to start again"
        ) from error
    return state


def save_weights(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Write weights as safetensors.

    Raises:
        OSError: the disk is full or the folder not writable.
    """
    content = save(dict(weights))  # the library's own writer has errors and file modes of its own
    write_atomically(path, lambda part: part.write_bytes(content))


def load_weights(path: Path, model: nn.Module) -> None:
    """Load what `save_weights` wrote into `model`.

    Raises:
        UserError: the file is absent, damaged, or belongs to another network.
    """
    try:
        model.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = " ".join(line.strip() for line in str(error).splitlines()[:2])
        raise UserError(f"{path} does not hold the weights of this run's model ({reason})") from error
