from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import entropy
from torch import Tensor, nn

from sslbench.algorithms.entropy_min import EntropyMinimisation
from sslbench.core import Batch, Progress, StepOutput


class Given(nn.Module):
    """Logits in place of images."""

    def forward(self, logits: Tensor) -> Tensor:
        return logits


def step(labelled: Tensor, unlabelled: Tensor, weight: float = 0.3) -> StepOutput:
    targets = torch.zeros(len(labelled), dtype=torch.int64)
    batch = Batch((labelled,), targets, (unlabelled,), targets, torch.arange(len(unlabelled)))
    return EntropyMinimisation(weight).step({"student": Given()}, batch, Progress(torch.tensor(0.0), 8))


def test_loss_is_the_papers_formula() -> None:
    torch.manual_seed(0)
    labelled, unlabelled = torch.randn(3, 5).double(), 2 * torch.randn(4, 5).double()
    output = step(labelled, unlabelled)
    probabilities = softmax(unlabelled.numpy(), axis=1)
    uncertainty = entropy(probabilities, axis=1).mean()
    supervised = -np.log(softmax(labelled.numpy(), axis=1)[:, 0]).mean()
    assert output.terms["entropy"].item() == pytest.approx(uncertainty, rel=1e-12)
    assert output.terms["supervised"].item() == pytest.approx(supervised, rel=1e-12)
    assert output.losses["main"].item() == pytest.approx(supervised + 0.3 * uncertainty, rel=1e-12)
    mean = entropy(probabilities.mean(axis=0))
    assert output.monitors["mean_entropy"].item() == pytest.approx(mean, rel=1e-12)


def test_the_monitor_tells_certainty_from_collapse() -> None:
    """The entropy itself is 0 for both."""
    labelled, certain = torch.zeros(1, 4), 1e4 * torch.eye(4)
    good, collapsed = step(labelled, certain), step(labelled, certain[[0, 0, 0, 0]])
    assert good.terms["entropy"].item() == collapsed.terms["entropy"].item() == 0
    assert good.monitors["mean_entropy"].item() == pytest.approx(np.log(4))
    assert collapsed.monitors["mean_entropy"].item() == 0
    assert not good.monitors["mean_entropy"].requires_grad
