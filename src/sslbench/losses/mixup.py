"""Mixtures of images and of predictions."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Beta


def mixing_shares(count: int, alpha: float, device: torch.device) -> Tensor:
    """``Beta(alpha, alpha)``, one draw a sample from the global random stream of `device`: ``[count]``."""
    concentration = torch.full((count,), alpha, device=device)
    # Its checks of the arguments would wait for the device.
    shares: Tensor = Beta(concentration, concentration, validate_args=False).sample()
    return shares


def mix(one: Tensor, other: Tensor, share: Tensor) -> Tensor:
    """``share * one + (1 - share) * other`` (Zhang et al. 2018, arXiv:1710.09412).

    Args:
        one: ``[B, ...]``.
        other: ``[B, ...]``.
        share: of `one`, ``[B]``, in [0, 1].
    """
    return torch.lerp(other, one, share.view(-1, *[1] * (one.dim() - 1)).to(one.dtype))


def sharpen(probabilities: Tensor, temperature: float) -> Tensor:
    """``p ** (1 / T)``, normalised: nearer to one-hot for T below 1 (arXiv:1905.02249, eq. 7).

    Args:
        probabilities: ``[B, K]``.
        temperature: T, above 0.
    """
    # By way of logarithms, as a small T would let every power underflow. A probability of 0 stays 0.
    present = probabilities > 0
    powers = torch.where(present, probabilities, 1).log() / temperature
    return powers.masked_fill(~present, -torch.inf).softmax(dim=1)
