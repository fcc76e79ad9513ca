from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from torch import nn

from helpers.predicted import SPEC, assert_state_survives, logits, predicted
from sslbench.algorithms.weak_to_strong.shrunk_classes import ShrunkClasses, classes_to_remove
from sslbench.models.classifier import Classifier

WIDTH = 12


def prepared(threshold: float = 0.8, decay: float = 0.6) -> ShrunkClasses:
    torch.manual_seed(0)
    part = ShrunkClasses(threshold, decay)
    part.prepare(SPEC, Classifier(nn.Identity(), nn.Linear(WIDTH, 5)))
    return part.double()


def shrink(row: np.ndarray, threshold: float) -> tuple[list[int], bool]:
    """The classes that are left out, one more at a time, and whether the first reaches the threshold."""
    order = [int(k) for k in np.argsort(-row)]
    for number in range(1, len(row) - 1):
        rest = row[order[1 + number :]].sum()
        reached = bool(row[order[0]] / (row[order[0]] + rest) >= threshold)
        if reached or number == len(row) - 2:
            return order[1 : 1 + number], reached
    raise AssertionError


@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.95, 1.0])
def test_classes_are_removed_in_their_order_until_the_first_reaches_the_threshold(threshold: float) -> None:
    probabilities = logits(60, 1).softmax(dim=1)
    removed, reached = classes_to_remove(probabilities, threshold)
    for row, marks, enough in zip(probabilities.numpy(), removed, reached, strict=True):
        expected, expected_reached = shrink(row, threshold)
        assert sorted(expected) == marks.nonzero().flatten().tolist()
        assert enough.item() == expected_reached
    if threshold == 0.95:
        assert set(reached.tolist()) == {False, True}


def test_the_term_follows_the_formula_over_several_steps() -> None:
    part, certain = prepared(), None
    for step in range(4):
        aligned, features = logits(40, step).softmax(dim=1), logits(40, 20 + step, num_classes=WIDTH)
        weights = (aligned.amax(dim=1) >= 0.8).double()
        assert set(weights.tolist()) == {0, 1}
        share = weights.mean().item()
        certain = share if certain is None else 0.6 * certain + 0.4 * share
        scores = part.head(features).detach().numpy()
        total = 0.0
        for row, score in zip(aligned.numpy(), scores, strict=True):
            if row.max() < 0.8:
                removed, reached = shrink(row, 0.8)
                kept = [k for k in range(5) if k not in removed]
                log_p = log_softmax(score[kept])[kept.index(int(row.argmax()))]
                total -= row.max() * reached * log_p
        # The aligned predictions count, not the weak ones.
        predictions = predicted(logits(40, 40 + step), aligned=aligned, features=features)
        found = part(predictions, aligned, weights)
        assert total > 0
        assert found.item() == pytest.approx(total / 40 * certain, rel=1e-6)
        assert part.certain.item() == pytest.approx(certain, rel=1e-6)


def test_certain_images_and_those_that_stay_uncertain_send_no_gradient() -> None:
    aligned = torch.tensor(
        [[0.9, 0.05, 0.03, 0.01, 0.01], [0.24, 0.19, 0.19, 0.19, 0.19], [0.7, 0.25, 0.03, 0.01, 0.01]],
        dtype=torch.float64,
    )
    part = prepared()
    part.head = nn.Sequential(nn.Linear(WIDTH, 5)).double()  # without batch norm, which would mix the images
    features = logits(3, 1, num_classes=WIDTH).requires_grad_()
    predictions = predicted(aligned.log(), features=features)
    part(predictions, aligned, torch.tensor([1.0, 0, 0])).backward()
    assert features.grad is not None
    assert features.grad.abs().amax(dim=1).gt(0).tolist() == [False, False, True]


def test_a_batch_without_uncertain_images_is_finite() -> None:
    aligned = torch.eye(5, dtype=torch.float64)
    features = logits(5, 1, num_classes=WIDTH).requires_grad_()
    predictions = replace(predicted(aligned, features=features), aligned=aligned)
    loss = prepared()(predictions, aligned, torch.ones(5))
    loss.backward()
    assert loss.item() == 0
    assert features.grad is not None
    assert not features.grad.any()


def test_the_head_has_two_hidden_layers_of_a_quarter_of_the_width() -> None:
    sizes = [
        (layer.in_features, layer.out_features) for layer in prepared().head if isinstance(layer, nn.Linear)
    ]
    assert sizes == [(12, 3), (3, 3), (3, 5)]


def test_state_survives() -> None:
    part = prepared()
    aligned, features = logits(9, 1).softmax(dim=1), logits(9, 2, num_classes=WIDTH)
    part(predicted(aligned, features=features), aligned, torch.ones(9))
    assert part.has_begun
    assert_state_survives(part, prepared())


def test_what_it_cannot_work_with_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^threshold=1\.1"):
        ShrunkClasses(1.1, 0.9)
    with pytest.raises(ValueError, match=r"^decay=1\.0"):
        ShrunkClasses(0.9, 1.0)
    part = ShrunkClasses(0.9, 0.9)
    with pytest.raises(ValueError, match="needs three classes or more"):
        part.prepare(replace(SPEC, num_classes=2), Classifier(nn.Identity(), nn.Linear(WIDTH, 2)))
    with pytest.raises(ValueError, match="classifier is a linear layer"):
        part.prepare(SPEC, Classifier(nn.Identity(), nn.Sequential(nn.Linear(WIDTH, 5))))
