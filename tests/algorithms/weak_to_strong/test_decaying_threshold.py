from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax

from helpers.predicted import assert_state_survives, logits, predicted
from sslbench.algorithms.weak_to_strong.decaying_threshold import (
    DecayingThreshold,
    SmallLoss,
    SoftThenHardTargets,
)
from sslbench.algorithms.weak_to_strong.protocol import Predictions
from sslbench.core import Progress

TOTAL = 40
USUAL = {"warm_up": 0.1, "interval": 0.125, "divisor": 1.5, "scale": 1.0001, "minimum": 0.6}


def threshold(**changes: Any) -> DecayingThreshold:
    return DecayingThreshold(**{**USUAL, **changes}).double()


def at(step: int, total: int = TOTAL) -> Predictions:
    made = predicted(logits(6, step), labelled=logits(4, 100 + step), targets=torch.arange(4))
    return replace(made, progress=Progress(torch.tensor(float(step)), total))


def labelled_loss(step: int) -> float:
    return float(-log_softmax(logits(4, 100 + step).numpy(), axis=1)[range(4), range(4)].mean())


def expected_thresholds() -> list[float]:
    """Warm-up: steps 0 to 3. The first step after it, 4, enters the average too; a division every 5 steps."""
    found, start = [], 0.0
    for step in range(TOTAL):
        if step <= 4:
            decay = min(1 - 1 / (step + 1), 0.9)
            start = decay * start + (1 - decay) * labelled_loss(step)
        times = max(0, step - 4) // 5
        found.append(max(1.0001 * 1.5**-times * start, 0.6))
    return found


def test_the_threshold_follows_the_formula_over_a_run() -> None:
    part = threshold()
    expected = expected_thresholds()
    assert [part(at(step)).item() for step in range(TOTAL)] == pytest.approx(expected, rel=1e-5)
    assert expected[4] > expected[9] > expected[14] > 0.6
    assert expected[-1] == 0.6


def test_weights_and_targets_follow_the_formula_over_a_run() -> None:
    weighting, targets = SmallLoss(threshold()), SoftThenHardTargets(threshold(), 0.5)
    seen = set()
    for step, rho in enumerate(expected_thresholds()):
        weak = logits(6, step).numpy()
        confidence = softmax(weak, axis=1).max(axis=1)
        expected = (-np.log(confidence) <= rho) & (step >= 4)
        found = weighting(at(step))
        assert found.tolist() == expected.astype(float).tolist()
        soft, hard = softmax(weak / 0.5, axis=1), np.eye(5)[weak.argmax(axis=1)]
        np.testing.assert_allclose(targets(at(step)).numpy(), soft if rho > 0.6 else hard, rtol=1e-6)
        assert weighting.threshold.start == targets.threshold.start
        seen |= {(bool(rho > 0.6), value) for value in found.tolist() if step >= 4}
    assert seen == {(True, 0), (True, 1), (False, 0), (False, 1)}


@pytest.mark.parametrize("total", [40, 200, 1000])
def test_runs_of_any_length_pass_through_the_same_thresholds(total: int) -> None:
    part = threshold(warm_up=0.0, divisor=1.1, minimum=0.0)
    start = part(at(0, total)).item()
    for tenth in range(1, 8):
        boundary = total * tenth // 8
        before, after = (part(at(step, total)).item() for step in (boundary - 1, boundary))
        assert before / start == pytest.approx(1.1 ** -(tenth - 1), rel=1e-5)
        assert after / start == pytest.approx(1.1**-tenth, rel=1e-5)


def test_without_warm_up_the_first_batch_makes_the_threshold_and_counts() -> None:
    part = SmallLoss(threshold(warm_up=0.0, minimum=5.0))
    assert part(at(0)).tolist() == [1] * 6
    assert part.threshold.start.item() == pytest.approx(labelled_loss(0), rel=1e-6)


def test_nothing_counts_during_the_warm_up_however_sure() -> None:
    part = SmallLoss(threshold(minimum=100.0))
    assert [part(at(step)).sum().item() for step in range(6)] == [0, 0, 0, 0, 6, 6]


def test_weights_have_no_gradient() -> None:
    labelled = logits(4, 0).requires_grad_()
    part = SmallLoss(threshold())
    assert not part(replace(at(2), labelled=labelled)).requires_grad
    assert not part.threshold.start.requires_grad


def test_state_survives() -> None:
    parts = [SmallLoss(threshold()), SoftThenHardTargets(threshold(), 0.5)]
    fresh = [SmallLoss(threshold()), SoftThenHardTargets(threshold(), 0.5)]
    for part, other in zip(parts, fresh, strict=True):
        part(at(0))
        assert_state_survives(part, other)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("warm_up", -0.1),
        ("warm_up", 1.1),
        ("interval", 0.0),
        ("divisor", 0.0),
        ("scale", 0.0),
        ("minimum", -1.0),
    ],
)
def test_values_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"^{name}="):
        threshold(**{name: value})
    with pytest.raises(ValueError, match=r"^temperature="):
        SoftThenHardTargets(threshold(), 0.0)
