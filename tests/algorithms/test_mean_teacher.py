from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from torch import Tensor, nn

from sslbench.algorithms.mean_teacher import MeanTeacher
from sslbench.core import Batch, Progress
from sslbench.engine.step import move_averages
from sslbench.losses import kl, mse


def network() -> nn.Module:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(12, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 4)
    ).double()


def example(seed: int) -> Batch:
    torch.manual_seed(seed)
    labelled, targets = torch.randn(6, 1, 3, 4).double(), torch.randint(0, 4, (6,))
    views = torch.randn(2, 9, 1, 3, 4).double()
    return Batch((labelled,), targets, (views[0], views[1]), torch.arange(6), torch.arange(9))


def algorithm(**changes: float) -> MeanTeacher:
    return MeanTeacher(mse, **{"ema": 0.9, "weight": 8.0, "ramp_up": 0.5, **changes})


def progress(step: int) -> Progress:
    return Progress(torch.tensor(float(step)), 8)


def train(method: MeanTeacher, models: dict[str, nn.Module], steps: int) -> list[Tensor]:
    """Plain gradient steps; gives the student's first weight after each."""
    optimizer = torch.optim.SGD(models["student"].parameters(), lr=0.5)
    weights = []
    for step in range(steps):
        optimizer.zero_grad()
        torch.autograd.backward(method.step(models, example(step), progress(step)).losses["main"])
        optimizer.step()
        move_averages(models, method.averages, progress(step))
        weights.append(models["student"].get_parameter("1.weight").detach().clone())
    return weights


def logits_of(model: nn.Module, images: Tensor) -> np.ndarray:
    """In training mode, as every pass of a step is."""
    with torch.no_grad():
        logits: np.ndarray = model(images).numpy()
    return logits


def test_loss_is_the_papers_formula() -> None:
    torch.manual_seed(0)
    models = {"student": network(), "teacher": network()}
    batch = example(1)
    output = algorithm().step(models, batch, progress(1))
    labelled = log_softmax(logits_of(models["student"], batch.labelled[0]), axis=1)
    supervised = -np.mean([row[k] for row, k in zip(labelled, batch.targets.tolist(), strict=True)])
    student = softmax(logits_of(models["student"], batch.unlabelled[0]), axis=1)
    teacher = softmax(logits_of(models["teacher"], batch.unlabelled[1]), axis=1)
    consistency = ((student - teacher) ** 2).sum() / (9 * 4)
    weight = 8 * math.exp(-5 * (1 - 0.25) ** 2)
    assert output.terms["supervised"].item() == pytest.approx(supervised, rel=1e-12)
    assert output.terms["consistency"].item() == pytest.approx(consistency, rel=1e-12)
    assert output.losses["main"].item() == pytest.approx(supervised + weight * consistency, rel=1e-6)
    assert output.monitors["consistency_weight"].item() == pytest.approx(weight, rel=1e-6)


def test_consistency_is_not_zero_while_the_teacher_equals_the_student() -> None:
    torch.manual_seed(2)
    method = algorithm()
    models = method.build(network)
    output = method.step(models, example(3), progress(0))
    assert output.terms["consistency"].item() > 1e-3
    first = models["student"].get_parameter("1.weight")
    (gradient,) = torch.autograd.grad(output.terms["consistency"], first)
    assert gradient.abs().max() > 1e-4


def test_teacher_is_the_average_of_the_students_weights() -> None:
    torch.manual_seed(4)
    method = algorithm(ema=0.6)
    models = method.build(network)
    weights = train(method, models, 5)
    expected = torch.zeros_like(weights[0])
    for step, weight in enumerate(weights):
        decay = min(1 - 1 / (step + 1), 0.6)
        expected = decay * expected + (1 - decay) * weight
    teacher = models["teacher"].get_parameter("1.weight")
    torch.testing.assert_close(teacher, expected, rtol=1e-6, atol=1e-6)
    assert (teacher - weights[-1]).abs().max() > 1e-2


def test_teacher_starts_equal_and_equals_the_student_after_the_first_step() -> None:
    torch.manual_seed(5)
    method = algorithm()
    models = method.build(network)
    before = models["student"].get_parameter("1.weight").detach().clone()
    assert torch.equal(models["teacher"].get_parameter("1.weight"), before)
    train(method, models, 1)
    for ours, theirs in zip(models["teacher"].parameters(), models["student"].parameters(), strict=True):
        assert ours is not theirs
        assert torch.equal(ours, theirs)
    assert not torch.equal(models["teacher"].get_parameter("1.weight"), before)


def test_same_view_twice_has_a_loss_once_the_teacher_lags() -> None:
    torch.manual_seed(6)
    method = algorithm()
    models = method.build(network)
    batch = example(7)
    same = Batch(
        batch.labelled, batch.targets, batch.unlabelled[:1] * 2, batch.labelled_index, batch.unlabelled_index
    )
    assert method.step(models, same, progress(0)).terms["consistency"].item() == pytest.approx(0, abs=1e-20)
    train(method, models, 4)
    assert method.step(models, same, progress(4)).terms["consistency"].item() > 1e-6


def test_teacher_predicts_with_the_batchs_statistics_and_gets_no_gradient() -> None:
    torch.manual_seed(8)
    models = {"student": network(), "teacher": network()}
    batch = example(9)
    expected = softmax(logits_of(models["teacher"], batch.unlabelled[1]), axis=1)
    before = [value.clone() for value in models["teacher"].buffers()]
    seen: list[Tensor] = []

    def spy(logits: Tensor, target: Tensor) -> Tensor:
        seen.append(target)
        return kl(logits, target)

    output = MeanTeacher(spy, ema=0.9, weight=1.0, ramp_up=0.0).step(models, batch, progress(0))
    torch.autograd.backward(output.losses["main"])
    assert not seen[0].requires_grad
    np.testing.assert_allclose(seen[0].numpy(), expected, rtol=1e-12)
    assert all(torch.equal(a, b) for a, b in zip(before, models["teacher"].buffers(), strict=True))
    assert all(parameter.grad is None for parameter in models["teacher"].parameters())


def test_the_teacher_picks_the_checkpoint() -> None:
    assert algorithm().predictors == ("teacher", "student")
    assert algorithm().trained == ("student",)
