"""Predictions for the parts of FixMatch, made of chosen or random logits."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sslbench.algorithms.weak_to_strong.protocol import Predictions
from sslbench.core import DataSpec, Progress

SPEC = DataSpec(channels=1, height=2, width=2, num_classes=5, num_train=20)


def logits(count: int, seed: int, num_classes: int = SPEC.num_classes, scale: float = 2.0) -> Tensor:
    """Random logits, float64 ``[count, num_classes]``."""
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(count, num_classes, generator=generator, dtype=torch.float64)


def predicted(
    weak: Tensor,
    strong: Tensor | None = None,
    labelled: Tensor | None = None,
    labelled_strong: Tensor | None = None,
    targets: Tensor | None = None,
    aligned: Tensor | None = None,
    index: Tensor | None = None,
    fraction: float = 0.5,
    features: Tensor | None = None,
) -> Predictions:
    """Predictions with the given members; the others are zero, or follow from the weak logits."""
    probabilities = weak.softmax(dim=1)
    labelled = torch.zeros(1, weak.shape[1], dtype=weak.dtype) if labelled is None else labelled
    return Predictions(
        weak=weak,
        strong=torch.zeros_like(weak) if strong is None else strong,
        probabilities=probabilities,
        aligned=probabilities if aligned is None else aligned,
        index=torch.arange(len(weak)) if index is None else index,
        labelled=labelled,
        labelled_strong=labelled_strong,
        targets=torch.zeros(len(labelled), dtype=torch.int64) if targets is None else targets,
        progress=Progress(torch.tensor(1000 * fraction), 1000),
        features=features,
    )


def assert_state_survives(part: nn.Module, fresh: nn.Module) -> None:
    """A prepared part that gets the state of another has all of it."""
    before = {name: value.clone() for name, value in fresh.state_dict().items()}
    fresh.load_state_dict(part.state_dict())
    assert any(not torch.equal(value, before[name]) for name, value in fresh.state_dict().items())
    for name, value in part.state_dict().items():
        torch.testing.assert_close(fresh.state_dict()[name], value, rtol=0, atol=0)
