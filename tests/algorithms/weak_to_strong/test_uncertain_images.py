from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from helpers.predicted import logits, predicted
from sslbench.algorithms.weak_to_strong.uncertain_images import UncertainImages


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_the_term_is_the_divergence_of_the_uncertain_images(temperature: float) -> None:
    weak, strong = logits(8, 1), logits(8, 2)
    weights = torch.tensor([1.0, 0, 0, 1, 0, 1, 1, 0], dtype=torch.float64)
    log_q = log_softmax(weak.numpy() / temperature, axis=1)
    log_p = log_softmax(strong.numpy() / temperature, axis=1)
    divergence = (np.exp(log_q) * (log_q - log_p)).sum(axis=1)
    expected = (divergence * (1 - weights.numpy())).sum() / 8
    part = UncertainImages(temperature)
    found = part(predicted(weak, strong), torch.zeros(8, 5), weights)
    assert found.item() == pytest.approx(expected)


def test_targets_are_not_the_softmax_of_probabilities() -> None:
    """They would be flat; a strong view that says the same as the weak one has nothing to learn."""
    weak = torch.tensor([[4.0, 0, 0, 0, 0]], dtype=torch.float64)
    strong = weak.clone().requires_grad_()
    UncertainImages(0.5)(predicted(weak, strong), torch.zeros(1, 5), torch.zeros(1)).backward()
    assert strong.grad is not None
    assert strong.grad.abs().max() < 1e-12


def test_it_looks_at_the_aligned_prediction() -> None:
    weak, other, strong = logits(4, 1), logits(4, 2), logits(4, 3)
    part, none = UncertainImages(0.5), torch.zeros(4)
    found = part(predicted(weak, strong, aligned=other.softmax(dim=1)), none, none)
    assert found.item() == pytest.approx(part(predicted(other, strong), none, none).item())


def test_arguments_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^temperature=0\.0"):
        UncertainImages(0.0)
    with pytest.raises(ValueError, match=r"^weight=-1\.0"):
        UncertainImages(0.5, -1.0)
    assert UncertainImages(0.5, 2.0).weight == 2.0
