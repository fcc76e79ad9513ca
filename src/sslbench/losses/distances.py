"""Distances between a prediction and a target distribution.

Each takes the student's logits ``[B, K]`` and target probabilities ``[B, K]`` and gives one value per row,
``[B]``. All of them start from ``log_softmax``: values and gradients stay finite for one-hot targets and for
logits of 1e4, where ``log(softmax)`` would be minus infinity. Gradients flow into the target as well; an
algorithm whose target is a constant detaches it itself.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import log_softmax


def mse(logits: Tensor, target: Tensor) -> Tensor:
    """Mean over the classes of the squared difference of probabilities.

    The consistency loss of Laine & Aila 2017 (arXiv:1610.02242, Algorithm 1), which divides by the number of
    classes; other code sums over them and needs a weight that is smaller by that factor.

    Returns:
        Values in [0, 2/K], ``[B]``.
    """
    return (log_softmax(logits, dim=1).exp() - target).square().mean(dim=1)


def l1(logits: Tensor, target: Tensor) -> Tensor:
    """Mean over the classes of the absolute difference of probabilities.

    Returns:
        Values in [0, 2/K], ``[B]``: 2/K times the total variation distance.
    """
    return (log_softmax(logits, dim=1).exp() - target).abs().mean(dim=1)


def kl(logits: Tensor, target: Tensor) -> Tensor:
    """Kullback-Leibler divergence from target to student, ``KL(target || student)``.

    The direction of Miyato et al. 2018 (arXiv:1704.03976, eq. 5). For a constant target its gradient is that
    of `ce`, and its value is lower by the entropy of the target.

    Returns:
        Values in nats, ``[B]``, at least 0 up to rounding and without upper bound.
    """
    return (target * (_safe_log(target) - log_softmax(logits, dim=1))).sum(dim=1)


def js(logits: Tensor, target: Tensor) -> Tensor:
    """Jensen-Shannon divergence, ``(KL(p || m) + KL(q || m)) / 2`` with the mixture ``m = (p + q) / 2``.

    Symmetric and bounded, so one badly predicted image cannot dominate a batch as it can with `kl`.

    Returns:
        Values in nats, in [0, ln 2], ``[B]``.
    """
    log_p = log_softmax(logits, dim=1)
    p = log_p.exp()
    log_m = _safe_log((p + target) / 2)
    value = (p * (log_p - log_m) + target * (_safe_log(target) - log_m)).sum(dim=1) / 2
    # Rounding can step over a bound by about 1e-8. A plain clamp would cut the gradient there; moving the
    # value by a constant keeps it.
    return value + (value.clamp(0, math.log(2)) - value).detach()


def ce(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy ``-sum(target * log student)``; at equality it is the entropy, not 0.

    One-hot targets give the usual classification loss.

    Returns:
        Values in nats, at least 0, ``[B]``.
    """
    return -(target * log_softmax(logits, dim=1)).sum(dim=1)


def _safe_log(x: Tensor) -> Tensor:
    """``log(x)`` with value and gradient 0 where ``x`` is 0; there a factor of 0 stands before it."""
    return torch.where(x > 0, x, 1).log()
