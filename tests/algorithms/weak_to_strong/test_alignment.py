from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from helpers.predicted import SPEC, assert_state_survives, logits
from sslbench.algorithms.weak_to_strong.alignment import (
    EPSILON,
    LabelledAlignment,
    RecentMean,
    UniformAlignment,
)

Array = np.ndarray


def uniform(decay: float = 0.6) -> UniformAlignment:
    part = UniformAlignment(decay)
    part.prepare(SPEC, nn.Identity())
    return part.double()


def labelled(decay: float = 0.6, num_batches: int = 3) -> LabelledAlignment:
    part = LabelledAlignment(decay, num_batches)
    part.prepare(SPEC, nn.Identity())
    return part.double()


def scaled(q: Array, wanted: Array, predicted: Array) -> Array:
    found = q * (wanted + EPSILON) / (predicted + EPSILON)
    return found / found.sum(axis=1, keepdims=True)


def test_uniform_alignment_over_several_steps() -> None:
    part, average = uniform(), np.full(5, 0.2)
    for step in range(5):
        q = logits(6, step).softmax(dim=1)
        average = 0.6 * average + 0.4 * q.numpy().mean(axis=0)
        expected = scaled(q.numpy(), np.full(5, 0.2), average)
        np.testing.assert_allclose(part(q, q[:2]).numpy(), expected, rtol=1e-6)


def test_labelled_alignment_over_several_steps() -> None:
    """The mean is over the last three batches; before the start, they are even."""
    part, wanted, recent = labelled(), np.full(5, 0.2), [np.full(5, 0.2)] * 3
    for step in range(6):
        q, own = logits(6, step).softmax(dim=1), logits(4, 100 + step).softmax(dim=1)
        wanted = 0.6 * wanted + 0.4 * own.numpy().mean(axis=0)
        recent = [*recent[1:], q.numpy().mean(axis=0)]
        expected = scaled(q.numpy(), wanted, np.mean(recent, axis=0))
        np.testing.assert_allclose(part(q, own).numpy(), expected, rtol=1e-6)


def test_predictions_that_lean_to_one_class_are_set_right() -> None:
    """Aligned predictions have the wanted mean: the other way round, they would lean more."""
    leaning = torch.tensor([[0.8, 0.05, 0.05, 0.05, 0.05]] * 3 + [[0.5, 0.4, 0.05, 0.03, 0.02]]).double()
    for part in (uniform(0.0), labelled(0.0, 1)):
        aligned = part(leaning, torch.full((2, 5), 0.2, dtype=torch.float64))
        assert aligned[3].argmax().item() == 1
        torch.testing.assert_close(aligned.sum(dim=1), torch.ones(4, dtype=torch.float64))


@pytest.mark.parametrize("make", [uniform, labelled])
def test_state_survives_and_logits_stay(make: type) -> None:
    part = make()
    q = logits(6, 0).softmax(dim=1)
    part(q, q[:3])
    assert_state_survives(part, make())
    assert part.adjust(q) is q


def test_values_out_of_range_are_refused() -> None:
    for refused in (lambda: UniformAlignment(1.0), lambda: LabelledAlignment(1.0, 2)):
        with pytest.raises(ValueError, match=r"^decay="):
            refused()
    with pytest.raises(ValueError, match=r"^num_batches="):
        LabelledAlignment(0.9, 0)


def recent(batches: int = 3) -> RecentMean:
    part = RecentMean(batches)
    part.prepare(SPEC, nn.Identity())
    return part.double()


def test_predictions_are_divided_by_the_mean_of_the_last_batches_with_their_own() -> None:
    part, means = recent(), []
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
    torch.testing.assert_close(recent()(certain, torch.empty(0, 5)), certain)


def test_the_state_of_recent_means_survives() -> None:
    part = recent()
    part(logits(6, 1).softmax(dim=1), torch.empty(0, 5))
    assert_state_survives(part, recent())


def test_a_number_of_batches_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^batches=0"):
        RecentMean(0)
