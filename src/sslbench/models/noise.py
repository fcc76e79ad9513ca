"""Noise within a network."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn


@final
class GaussianNoise(nn.Module):
    """Adds Gaussian noise in training mode, from the global random stream.

    Args:
        std: its standard deviation, not negative.

    Raises:
        ValueError: it is negative.
    """

    def __init__(self, std: float) -> None:
        super().__init__()
        if std < 0:
            raise ValueError(f"noise is {std}: set it to 0 or more")
        self.std = std

    def forward(self, x: Tensor) -> Tensor:
        """``[B, ...]`` to the same shape."""
        return x.add(torch.randn_like(x), alpha=self.std) if self.training and self.std else x
