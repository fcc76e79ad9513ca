from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import softmax
from torch import nn

from helpers.predicted import SPEC, assert_state_survives, logits, predicted
from sslbench.algorithms.weak_to_strong.fairness import EPSILON, Fairness
from sslbench.losses import one_hot

Array = np.ndarray


def prepared(decay: float = 0.6) -> Fairness:
    part = Fairness(decay, 0.01)
    part.prepare(SPEC, nn.Identity())
    return part.double()


def share(mean: Array, histogram: Array) -> Array:
    ratio = np.array([m / h if h > 0 else 0.0 for m, h in zip(mean, histogram, strict=True)])
    found: Array = ratio / ratio.sum()
    return found


def histogram(probabilities: Array) -> Array:
    found: Array = np.eye(5)[probabilities.argmax(axis=1)].mean(axis=0)
    return found


def test_the_term_is_the_papers_over_several_steps() -> None:
    part = prepared()
    average, counts = np.full(5, 0.2), np.full(5, 0.2)
    missing = 0
    for step in range(6):
        weak, strong = logits(9, step), logits(9, 100 + step)
        weights = (torch.arange(9) % 3 != step % 3).double()
        q, p = softmax(weak.numpy(), axis=1), softmax(strong.numpy(), axis=1)[weights.numpy() > 0]
        average = 0.6 * average + 0.4 * q.mean(axis=0)
        counts = 0.6 * counts + 0.4 * histogram(q)
        missing += (histogram(p) == 0).any()
        expected = (share(average, counts) * np.log(share(p.mean(axis=0), histogram(p)) + EPSILON)).sum()
        found = part(predicted(weak, strong), one_hot(weak.argmax(dim=1), 5), weights)
        assert found.item() == pytest.approx(expected, rel=1e-5)
        assert found.item() < 0, "it is minus a cross-entropy"
        np.testing.assert_allclose(part.histogram.numpy(), counts, rtol=1e-6)
    assert missing > 0, "a class without an image has no share"


def test_without_an_accepted_image_it_is_0_and_so_is_its_gradient() -> None:
    strong = logits(4, 1).requires_grad_()
    term = prepared()(predicted(logits(4, 0), strong), torch.zeros(4, 5), torch.zeros(4))
    term.backward()
    assert term.item() == 0
    assert strong.grad is not None
    assert strong.grad.abs().max() == 0


def test_the_gradient_is_that_of_finite_differences_and_of_accepted_images_only() -> None:
    weak, strong = logits(4, 0), logits(4, 1).requires_grad_()
    weights = torch.tensor([1.0, 0, 1, 1], dtype=torch.float64)

    def term(strong: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = prepared()(predicted(weak, strong), torch.zeros(4, 5), weights)
        return found

    (gradient,) = torch.autograd.grad(term(strong), strong)
    assert gradient[1].abs().max() == 0
    for image, k in [(0, 0), (2, 1), (3, 4)]:
        with torch.no_grad():
            shift = torch.zeros_like(strong)
            shift[image, k] = 1e-6
            slope = (term(strong + shift) - term(strong - shift)) / 2e-6
        assert gradient[image, k].item() == pytest.approx(slope.item(), rel=1e-4, abs=1e-7)


def test_weak_predictions_and_weights_get_no_gradient() -> None:
    weak = logits(4, 0).requires_grad_()
    weights = torch.ones(4, dtype=torch.float64, requires_grad=True)
    predictions = predicted(weak.detach(), logits(4, 1).requires_grad_())
    prepared()(predictions, torch.zeros(4, 5), weights).backward()
    assert weights.grad is None
    assert weak.grad is None


def test_state_survives() -> None:
    part = prepared()
    part(predicted(logits(6, 0), logits(6, 1)), torch.zeros(6, 5), torch.ones(6))
    assert_state_survives(part, prepared())


def test_values_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^decay="):
        Fairness(1.0, 0.1)
    with pytest.raises(ValueError, match=r"^weight="):
        Fairness(0.9, -0.1)
