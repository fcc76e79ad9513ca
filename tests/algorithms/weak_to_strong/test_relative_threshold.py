from __future__ import annotations

import pytest
import torch

from helpers.predicted import logits, predicted
from sslbench.algorithms.weak_to_strong.relative_threshold import RelativeThreshold


@pytest.mark.parametrize("seed", range(4))
def test_weights_follow_the_paper(seed: int) -> None:
    own, aligned = logits(5, seed), logits(40, 50 + seed).softmax(dim=1)
    threshold = 0.9 * own.softmax(dim=1).numpy().max(axis=1).mean()
    expected = (aligned.numpy().max(axis=1) >= threshold).astype(float)
    found = RelativeThreshold(0.9)(predicted(logits(40, 100), labelled=own, aligned=aligned))
    assert found.tolist() == expected.tolist()
    assert 0 < expected.sum() < 40


def test_weights_have_no_gradient() -> None:
    own = logits(5, 0).requires_grad_()
    assert not RelativeThreshold(0.9)(predicted(logits(4, 1), labelled=own)).requires_grad


def test_as_confident_as_needed_is_enough() -> None:
    row = torch.tensor([[0.0, 0, 0, 0]], dtype=torch.float64)
    assert RelativeThreshold(1.0)(predicted(row, labelled=row)).tolist() == [1]


@pytest.mark.parametrize("ratio", [-0.1, 1.1])
def test_ratios_out_of_range_are_refused(ratio: float) -> None:
    with pytest.raises(ValueError, match=r"^ratio="):
        RelativeThreshold(ratio)
