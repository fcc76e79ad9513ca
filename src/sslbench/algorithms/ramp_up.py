"""How the weight of an unlabelled loss grows.

Each function takes ``fraction``, the share of the run that is done, ``[]``, and ``length``, the share that
the ramp takes: 0 for none, above 1 for a ramp that the run cuts off. It returns a factor in [0, 1], ``[]``,
on the device of ``fraction``.
"""

import torch
from torch import Tensor


def sigmoid_ramp_up(fraction: Tensor, length: float) -> Tensor:
    """``exp(-5 (1 - t)^2)``, t from 0 to 1, then 1 (Laine & Aila 2017, arXiv:1610.02242, section 3.3)."""
    if length == 0:
        return torch.ones_like(fraction)
    return torch.exp(-5 * (1 - (fraction / length).clamp(max=1)) ** 2)


def linear_ramp_up(fraction: Tensor, length: float) -> Tensor:
    """From 0 to 1 along a straight line, then 1 (MixMatch, arXiv:1905.02249, section 3.5)."""
    if length == 0:
        return torch.ones_like(fraction)
    return (fraction / length).clamp(max=1)


def cosine_ramp_up(fraction: Tensor, length: float) -> Tensor:
    """``(1 - cos(pi t)) / 2``, t from 0 to 1, then 1 (AdaMatch, arXiv:2106.04732, eq. 11)."""
    if length == 0:
        return torch.ones_like(fraction)
    return (1 - torch.cos(torch.pi * (fraction / length).clamp(max=1))) / 2
