from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import softmax

from helpers.predicted import logits, predicted
from sslbench.algorithms.weak_to_strong.other_classes import OtherClasses, first_classes, ranks
from sslbench.losses import one_hot

Array = np.ndarray


def least_k(weak: Array, strong: Array) -> int:
    """The definition, tried from 2 on."""
    order = np.argsort(-strong, axis=1)
    labels = weak.argmax(axis=1)
    for k in range(2, strong.shape[1] + 1):
        if all(label in row[:k] for label, row in zip(labels, order, strict=True)):
            return k
    raise AssertionError


def reference(weak: Array, strong: Array, weights: Array, threshold: float) -> tuple[float, float]:
    """Both losses, element by element."""
    p, k = softmax(strong, axis=1), least_k(weak, strong)
    negative, meaning = 0.0, []
    for image, scores in enumerate(weak):
        order = np.argsort(-scores)
        label, between, negatives = order[0], order[1:k], order[k:]
        negative -= sum(np.log(1 - p[image, j]) for j in negatives if p[image, j] <= threshold**2)
        level = (1 - p[image, label] - p[image, negatives].sum()) / (k - 1)
        for j in between:
            q = p[image, j]
            if weights[image] and q <= threshold**2:
                meaning += [-level * np.log(q) - (1 - level) * np.log(1 - q)]
    return negative / len(weak), float(np.mean(meaning)) if meaning else 0.0


@pytest.mark.parametrize("threshold", [0.4, 0.95])
@pytest.mark.parametrize("seed", range(4))
def test_the_term_is_the_sum_of_both_losses(seed: int, threshold: float) -> None:
    weak = logits(6, seed, num_classes=8)
    strong = weak + logits(6, 50 + seed, num_classes=8, scale=0.6)
    weights = torch.tensor([1.0, 0, 1, 0, 1, 1], dtype=torch.float64)
    negative, meaning = reference(weak.numpy(), strong.numpy(), weights.numpy(), threshold)
    assert negative > 0
    assert meaning > 0 or threshold == 0.4
    part = OtherClasses(threshold)
    found = part(predicted(weak, strong), torch.empty(6, 8), weights).item()
    assert found == pytest.approx(negative + meaning)
    without = part(predicted(weak, strong), torch.empty(6, 8), torch.zeros(6)).item()
    assert without == pytest.approx(negative), (
        "negatives are for all images, the other loss for confident ones"
    )


def test_k_is_the_greatest_rank_of_a_pseudo_label_at_the_strong_view() -> None:
    found = set()
    for seed in range(30):
        weak = logits(4, seed)
        strong = weak + logits(4, 100 + seed, scale=2.0)
        k = int(first_classes(strong, one_hot(weak.argmax(dim=1), 5, torch.bool)))
        assert k == least_k(weak.numpy(), strong.numpy())
        found.add(k)
    assert found >= {2, 3, 4}


def test_k_is_two_where_all_agree_and_all_classes_where_one_is_last() -> None:
    weak = 3 * torch.eye(5, dtype=torch.float64)
    labels = one_hot(weak.argmax(dim=1), 5, torch.bool)
    assert first_classes(weak, labels).item() == 2
    strong = torch.cat([weak[:4], -weak[4:]])
    assert first_classes(strong, labels).item() == 5
    part = OtherClasses(0.95)
    weak, strong = weak + logits(5, 1, scale=0.1), strong + logits(5, 2, scale=0.1)
    found = part(predicted(weak, strong), torch.empty(5, 5), torch.zeros(5))
    assert found.item() == 0, "no class is a negative"


def test_the_level_is_a_constant() -> None:
    """The second loss alone: k is the number of classes."""
    weak = torch.tensor([[3.0, 1, 0, -1, -2]] * 2, dtype=torch.float64)
    strong = torch.tensor([[3.0, 1, 0, -1, -2], [0.0, 1, 2, 3, 4]], dtype=torch.float64).requires_grad_()
    weights = torch.tensor([1.0, 0.0])
    OtherClasses(0.95)(predicted(weak, strong), torch.empty(2, 5), weights).backward()
    p = strong.detach().softmax(dim=1)[0]
    level = (1 - p[0]) / 4
    by_p = torch.where(torch.arange(5) > 0, (1 - level) / (1 - p) - level / p, 0) / 4
    expected = p * (by_p - (p * by_p).sum())  # through the softmax
    assert strong.grad is not None
    torch.testing.assert_close(strong.grad[0], expected)
    assert not strong.grad[1].any()


@pytest.mark.parametrize("threshold", [0.0, 0.95, 1.0])
def test_certain_and_wrong_predictions_have_a_finite_loss(threshold: float) -> None:
    weak = 200 * torch.eye(5)
    strong = (200 * torch.eye(5).roll(1, dims=1)).requires_grad_()
    loss = OtherClasses(threshold)(predicted(weak, strong), torch.empty(5, 5), torch.ones(5))
    loss.backward()
    assert torch.isfinite(loss)
    assert strong.grad is not None
    assert torch.isfinite(strong.grad).all()


def test_ranks() -> None:
    assert ranks(torch.tensor([[0.1, 0.5, 0.4], [0.7, 0.1, 0.2]])).tolist() == [[2, 0, 1], [0, 2, 1]]


def test_a_threshold_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^threshold=1\.1"):
        OtherClasses(1.1)
