from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import softmax
from torch import nn

from helpers.predicted import SPEC, assert_state_survives, logits
from sslbench.algorithms.weak_to_strong.prediction_margin import PredictionMargin


def prepared(strength: float = 0.8, decay: float = 0.7) -> PredictionMargin:
    part = PredictionMargin(strength, decay)
    part.prepare(SPEC, nn.Identity())
    return part.double()


def test_weak_predictions_lose_the_margin_and_strong_logits_gain_it_over_several_steps() -> None:
    part, average = prepared(), np.full(5, 1 / 5)
    for step in range(4):
        weak, strong = logits(6, step) + torch.tensor([2.0, 1, 0, 0, 0]), logits(6, 10 + step)
        expected = softmax(weak.numpy() - 0.8 * np.log(average), axis=1)
        average = 0.7 * average + 0.3 * softmax(weak.numpy(), axis=1).mean(axis=0)
        found = part(weak.softmax(dim=1), torch.empty(0, 5))
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)
        np.testing.assert_allclose(part.average.numpy(), average, rtol=1e-6)
        # The logits are adjusted by the average that the step has moved.
        np.testing.assert_allclose(
            part.adjust(strong).numpy(), strong.numpy() + 0.8 * np.log(average), rtol=1e-6, atol=1e-6
        )


def test_a_popular_class_loses_images() -> None:
    part = prepared(strength=1.0, decay=0.5)
    weak = torch.tensor([[2.0, 0, 0, 0, 0]] * 9 + [[0.5, 0.4, 0, 0, 0]], dtype=torch.float64).softmax(dim=1)
    for _ in range(10):
        corrected = part(weak, torch.empty(0, 5))
    assert weak[-1].argmax() == 0
    assert corrected[-1].argmax() == 1


def test_predictions_that_are_certain_stay_finite() -> None:
    part = prepared(decay=0.0)
    certain = torch.eye(5, dtype=torch.float64)[:2]
    for _ in range(2):
        assert torch.isfinite(part(certain, torch.empty(0, 5))).all()
        assert torch.isfinite(part.adjust(logits(2, 1))).all()


def test_state_survives() -> None:
    part = prepared()
    part(logits(6, 1).softmax(dim=1), torch.empty(0, 5))
    assert_state_survives(part, prepared())


def test_arguments_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^strength=-0\.1"):
        PredictionMargin(-0.1, 0.9)
    with pytest.raises(ValueError, match=r"^decay=1\.0"):
        PredictionMargin(0.5, 1.0)
