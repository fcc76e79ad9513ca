"""The supervised loss, the form in which labels enter it, and the entropy of a prediction."""

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from sslbench.losses.distances import ce


def one_hot(classes: Tensor, num_classes: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Class indices, int64 ``[B]``, to rows of `dtype` with a 1 at the class and 0 elsewhere, ``[B, K]``.

    Made by comparing indices, since the library's function waits for the device on CUDA.
    """
    return (classes[:, None] == torch.arange(num_classes, device=classes.device)).to(dtype)


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean of `ce` with hard labels: their mean negative log-likelihood.

    The library's own loss has no deterministic backward pass on CUDA.

    Args:
        logits: ``[B, K]``.
        targets: class indices, int64 ``[B]``, 0 to K - 1.

    Returns:
        A scalar, in nats.
    """
    return ce(logits, one_hot(targets, logits.shape[1], logits.dtype)).mean()


def entropy(logits: Tensor) -> Tensor:
    """Shannon entropy of ``softmax(logits)``.

    Minimising it on unlabelled images is the regulariser of Grandvalet & Bengio (NIPS 2004), the "+EntMin" of
    VAT (arXiv:1704.03976).

    Returns:
        Values in nats, in [0, ln K], ``[B]``, for logits ``[B, K]``.
    """
    log_p = log_softmax(logits, dim=1)
    return -(log_p.exp() * log_p).sum(dim=1)
