from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from helpers.predicted import SPEC, assert_state_survives, logits
from sslbench.algorithms.weak_to_strong.recent_mean import RecentMean


def prepared(batches: int = 3) -> RecentMean:
    part = RecentMean(batches)
    part.prepare(SPEC, nn.Identity())
    return part.double()


def test_predictions_are_divided_by_the_mean_of_the_last_batches_with_their_own() -> None:
    part, means = prepared(), []
    for step in range(7):
        probabilities = (logits(6, step) + torch.tensor([step, 1, 0, 0, 0])).softmax(dim=1)
        means.append(probabilities.numpy().mean(axis=0))
        ratio = probabilities.numpy() / np.mean(means[-3:], axis=0)
        found = part(probabilities, torch.empty(0, 5))
        np.testing.assert_allclose(found.numpy(), ratio / ratio.sum(axis=1, keepdims=True), rtol=1e-9)
    strong = logits(2, 1)
    assert part.adjust(strong) is strong


def test_a_class_that_is_never_predicted_leaves_numbers_finite() -> None:
    certain = torch.eye(5, dtype=torch.float64)[:2]
    torch.testing.assert_close(prepared()(certain, torch.empty(0, 5)), certain)


def test_state_survives() -> None:
    part = prepared()
    part(logits(6, 1).softmax(dim=1), torch.empty(0, 5))
    assert_state_survives(part, prepared())


def test_a_number_of_batches_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^batches=0"):
        RecentMean(0)
