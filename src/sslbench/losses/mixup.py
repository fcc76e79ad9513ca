"""Mixtures of images and of predictions."""

import torch
from torch import Tensor
from torch.distributions import Beta


def mixup_coefficients(count: int, alpha: float, device: torch.device) -> Tensor:
    """Lambda of each mixture, ``[count]``: draws of Beta(alpha, alpha) from the global stream of `device`."""
    concentration = torch.full((count,), alpha, device=device)
    # The checks of the arguments would wait for the device.
    coefficients: Tensor = Beta(concentration, concentration, validate_args=False).sample()
    return coefficients


def mix(one: Tensor, other: Tensor, coefficient: Tensor) -> Tensor:
    """``coefficient * one + (1 - coefficient) * other`` (Zhang et al. 2018, arXiv:1710.09412).

    The arguments are ``[B, ...]`` and the lambda of each mixture, ``[B]``, in [0, 1]; the mixtures have the
    type of `one`.
    """
    return torch.lerp(other, one, coefficient.view(-1, *[1] * (one.dim() - 1)).to(one.dtype))


def sharpen(probabilities: Tensor, temperature: float) -> Tensor:
    """``p ** (1 / T)``, normalised; nearer to one-hot for T below 1 (arXiv:1905.02249, eq. 7).

    From ``[B, K]`` to ``[B, K]``; the temperature T is above 0, and a probability of 0 stays 0.
    """
    # Through logarithms, because with a small T every power would underflow.
    present = probabilities > 0
    powers = torch.where(present, probabilities, 1).log() / temperature
    return powers.masked_fill(~present, -torch.inf).softmax(dim=1)
