from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from helpers.predicted import SPEC, assert_state_survives, logits, predicted
from sslbench.algorithms.weak_to_strong.self_adaptive_threshold import SelfAdaptiveThreshold


def prepared(decay: float = 0.6) -> SelfAdaptiveThreshold:
    part = SelfAdaptiveThreshold(decay)
    part.prepare(SPEC, nn.Identity())
    return part.double()


def test_averages_and_weights_follow_the_paper_over_several_steps() -> None:
    part = prepared()
    confidence, predicted_share = 0.2, np.full(5, 0.2)
    seen = set()
    for step in range(6):
        weak = logits(7, step)
        q = weak.softmax(dim=1).numpy()
        confidence = 0.6 * confidence + 0.4 * q.max(axis=1).mean()
        predicted_share = 0.6 * predicted_share + 0.4 * q.mean(axis=0)
        thresholds = confidence * predicted_share / predicted_share.max()
        expected = q.max(axis=1) >= thresholds[q.argmax(axis=1)]
        found = part(predicted(weak))
        assert found.tolist() == expected.astype(float).tolist()
        assert part.confidence.item() == pytest.approx(confidence, rel=1e-6)
        np.testing.assert_allclose(part.predicted.numpy(), predicted_share, rtol=1e-6)
        seen |= set(found.tolist())
    assert seen == {0, 1}


def test_the_present_batch_enters_before_it_is_compared() -> None:
    """By the averages of the past, 1/K, the image would count."""
    probabilities = torch.tensor([[0.3, 0.2, 0.2, 0.2, 0.1], *[[0.96, 0.01, 0.01, 0.01, 0.01]] * 3])
    assert prepared(0.0)(predicted(probabilities.double().log())).tolist() == [0, 1, 1, 1]


def test_a_rare_class_has_a_lower_threshold() -> None:
    rows = [[0.9, 0.1, 0, 0, 0], [0.9, 0.1, 0, 0, 0], [0.4, 0.6, 0, 0, 0], [0.6, 0.4, 0, 0, 0]]
    weak = torch.tensor(rows, dtype=torch.float64).clamp(min=1e-9).log()
    assert prepared(0.0)(predicted(weak)).tolist() == [1, 1, 1, 0]


def test_state_survives() -> None:
    part = prepared()
    part(predicted(logits(6, 0)))
    assert_state_survives(part, prepared())


def test_a_decay_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^decay=1.0"):
        SelfAdaptiveThreshold(1.0)
