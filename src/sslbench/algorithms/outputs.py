"""The usual sums of terms as the output of a step."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sslbench.core import StepOutput


def weighted_sum(
    supervised: Tensor, unlabelled: Tensor, weight: Tensor, name: str = "consistency", **monitors: Tensor
) -> StepOutput:
    """``supervised + weight * unlabelled``.

    Args:
        supervised: loss on the labelled images, ``[]``.
        unlabelled: loss on the unlabelled images before weighting, ``[]``.
        weight: of the latter, ``[]``; logged as ``<name>_weight``.
        name: under which the unlabelled loss is logged.
        monitors: other scalars worth a curve, detached.
    """
    terms = {"supervised": supervised, name: unlabelled}
    return StepOutput(supervised + weight * unlabelled, terms, {f"{name}_weight": weight, **monitors})


def plain_sum(terms: Mapping[str, Tensor]) -> StepOutput:
    """The sum of `terms`, each ``[]``."""
    return StepOutput(torch.stack(list(terms.values())).sum(), terms)
