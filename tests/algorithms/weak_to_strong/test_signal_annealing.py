from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from helpers.predicted import logits, predicted
from sslbench.algorithms.weak_to_strong.signal_annealing import SCHEDULES, SignalAnnealing

RISEN = {"linear": lambda t: t, "exp": lambda t: np.exp(5 * (t - 1)), "log": lambda t: 1 - np.exp(-5 * t)}
TARGETS = torch.tensor([0, 1, 2, 3, 4, 0, 1, 2])


@pytest.mark.parametrize("fraction", [0.0, 0.125, 0.5, 0.75])
@pytest.mark.parametrize("schedule", sorted(RISEN))
def test_the_loss_is_the_mean_over_images_below_the_threshold(schedule: str, fraction: float) -> None:
    targets = TARGETS.repeat(5)
    labelled = logits(40, 1) + 3 * torch.eye(5, dtype=torch.float64)[targets]
    log_p = log_softmax(labelled.numpy(), axis=1)[range(40), targets.numpy()]
    threshold = RISEN[schedule](fraction) * (1 - 1 / 5) + 1 / 5
    kept = np.exp(log_p) <= threshold
    assert 0 < kept.sum() < 40
    part = SignalAnnealing(schedule)
    found = part(predicted(logits(2, 2), labelled=labelled, targets=targets, fraction=fraction))
    assert found.item() == pytest.approx(-log_p[kept].sum() / kept.sum(), rel=1e-6)


def test_without_a_schedule_all_images_count() -> None:
    labelled = logits(8, 1)
    found = SignalAnnealing("none")(predicted(logits(2, 2), labelled=labelled, targets=TARGETS, fraction=0.0))
    assert found.item() == pytest.approx(torch.nn.functional.cross_entropy(labelled, TARGETS).item())


def test_the_probability_of_the_true_class_decides_not_the_greatest() -> None:
    labelled = torch.tensor([[6.0, 0.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    part = SignalAnnealing("linear")
    wrong, right = (
        part(predicted(logits(2, 2), labelled=labelled, targets=torch.tensor([target]), fraction=0.5)).item()
        for target in (1, 0)
    )
    assert wrong > 6
    assert right == 0


def test_a_batch_that_is_learnt_has_loss_and_gradient_zero() -> None:
    labelled = torch.eye(5, dtype=torch.float64).mul(9).requires_grad_()
    part = SignalAnnealing("exp")
    loss = part(predicted(logits(2, 2), labelled=labelled, targets=torch.arange(5), fraction=0.0))
    (gradient,) = torch.autograd.grad(loss, labelled)
    assert loss.item() == 0
    assert not gradient.any()


def test_an_unknown_schedule_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^schedule=cosine: choose from none, linear, exp, log$"):
        SignalAnnealing("cosine")
    assert set(SCHEDULES) == {"none", *RISEN}
