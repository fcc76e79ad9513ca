"""The usual sums of terms as the output of a step."""

from collections.abc import Mapping

import torch
from torch import Tensor

from sslbench.core import StepOutput


def weighted_sum(
    supervised: Tensor, unlabelled: Tensor, weight: Tensor, name: str = "consistency", **monitors: Tensor
) -> StepOutput:
    """``supervised + weight * unlabelled``, each ``[]``.

    The loss on unlabelled images is logged as `name`, before weighting, and its weight as ``<name>_weight``.
    The `monitors` are other scalars worth a curve, detached.
    """
    terms = {"supervised": supervised, name: unlabelled}
    return StepOutput(supervised + weight * unlabelled, terms, {f"{name}_weight": weight, **monitors})


def plain_sum(terms: Mapping[str, Tensor]) -> StepOutput:
    """The sum of `terms`, each ``[]``."""
    return StepOutput(torch.stack(list(terms.values())).sum(), terms)
