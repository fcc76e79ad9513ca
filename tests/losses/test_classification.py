from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from sslbench.losses import ce, cross_entropy, one_hot


def test_one_hot_has_a_row_for_each_image() -> None:
    rows = one_hot(torch.tensor([2, 0, 2]), 4)
    assert rows.dtype == torch.float32
    assert rows.tolist() == [[0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 1, 0]]


def test_cross_entropy_is_the_mean_negative_log_likelihood() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(7, 5, generator=generator, dtype=torch.float64)
    targets = torch.randint(0, 5, (7,), generator=generator)
    expected = -log_softmax(logits.numpy(), axis=1)[np.arange(7), targets.numpy()].mean()
    assert cross_entropy(logits, targets).item() == pytest.approx(expected, rel=1e-12)


def test_cross_entropy_is_ce_with_hard_targets() -> None:
    logits, targets = torch.randn(6, 3), torch.tensor([0, 2, 1, 1, 0, 2])
    assert torch.equal(cross_entropy(logits, targets), ce(logits, one_hot(targets, 3)).mean())
    assert cross_entropy(torch.tensor([[1e4, -1e4]]), torch.tensor([1])).item() == 2e4


def test_half_precision_stays_half_precision() -> None:
    logits, targets = torch.randn(6, 3).bfloat16(), torch.tensor([0, 2, 1, 1, 0, 2])
    assert one_hot(targets, 3, torch.bfloat16).dtype == torch.bfloat16
    assert cross_entropy(logits, targets).dtype == torch.bfloat16
