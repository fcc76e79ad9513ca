"""The supervised loss."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import log_softmax


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean negative log-likelihood of hard labels.

    Written as a product with the one-hot targets: on CUDA the library's own has no deterministic backward
    pass, and its one-hot function waits for the device.

    Args:
        logits: ``[B, K]``.
        targets: class indices, int64 ``[B]``, 0 to K - 1.

    Returns:
        A scalar, in nats.
    """
    one_hot = targets[:, None] == torch.arange(logits.shape[1], device=logits.device)
    return -(log_softmax(logits, dim=1) * one_hot).sum(dim=1).mean()
