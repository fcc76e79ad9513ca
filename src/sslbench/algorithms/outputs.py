"""The usual sums of terms as the output of a step."""

from collections.abc import Mapping

import torch
from torch import Tensor

from sslbench.core import PseudoLabelled, StepOutput


def weighted_sum(
    supervised: Tensor,
    unlabelled: Tensor,
    weight: Tensor,
    name: str = "consistency",
    pseudo_labels: PseudoLabelled | None = None,
    **monitors: Tensor,
) -> StepOutput:
    """``supervised + weight * unlabelled``, each ``[]``.

    The loss on unlabelled images is logged as `name`, before weighting, and its weight as ``<name>_weight``.
    The `monitors` are other scalars worth a curve, detached; `pseudo_labels` are handed over.
    """
    terms = {"supervised": supervised, name: unlabelled}
    monitored = {f"{name}_weight": weight, **monitors}
    return StepOutput(supervised + weight * unlabelled, terms, monitored, pseudo_labels)


def plain_sum(terms: Mapping[str, Tensor], pseudo_labels: Tensor | None = None) -> StepOutput:
    """The sum of `terms`, each ``[]``; `pseudo_labels`, ``[U, K]``, are handed over as all accepted."""
    loss = torch.stack(list(terms.values())).sum()
    return StepOutput(loss, terms, pseudo_labels=None if pseudo_labels is None else accepted(pseudo_labels))


def accepted(pseudo_labels: Tensor) -> PseudoLabelled:
    """Pseudo-labels, probabilities ``[U, K]``, each of which counts in full."""
    return PseudoLabelled(pseudo_labels, torch.ones_like(pseudo_labels[:, 0]))
