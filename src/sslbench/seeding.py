"""Independent named random streams, so that a change in one use of chance leaves the others alone."""

import hashlib

import torch


def stream_seed(seed: int, name: str) -> int:
    """The seed of the stream `name` of a run with `seed`: 63 bits of SHA-256, the same on every machine."""
    digest = hashlib.sha256(f"{name}/{seed}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def stream(seed: int, name: str, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator on `device` for the stream `name` of a run with `seed`."""
    return torch.Generator(device).manual_seed(stream_seed(seed, name))
