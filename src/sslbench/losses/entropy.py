"""Entropy of a prediction."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import log_softmax


def entropy(logits: Tensor) -> Tensor:
    """Shannon entropy of ``softmax(logits)``.

    Minimising it on unlabelled images is the regulariser of Grandvalet & Bengio (NIPS 2004), the "+EntMin" of
    VAT (arXiv:1704.03976).

    Args:
        logits: ``[B, K]``.

    Returns:
        Values in nats, in [0, ln K], ``[B]``.
    """
    log_p = log_softmax(logits, dim=1)
    return -(log_p.exp() * log_p).sum(dim=1)
