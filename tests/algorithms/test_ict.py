from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from torch import Tensor, nn
from torch.distributions import Beta

from sslbench.algorithms import ict
from sslbench.algorithms.ict import ICT
from sslbench.core import Batch, Progress
from sslbench.engine.step import move_averages
from sslbench.losses import mse

PARTNER = [3, 0, 4, 2, 1]
SHARE = [0.9, 0.1, 0.5, 0.7, 0.3]


def network() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 4)).double()


def two_networks() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    return {"student": network(), "teacher": network()}


def example() -> Batch:
    torch.manual_seed(1)
    labelled, targets = torch.randn(6, 1, 3, 4).double(), torch.randint(0, 4, (6,))
    return Batch(
        (labelled,), targets, (2 * torch.randn(5, 1, 3, 4).double(),), torch.arange(6), torch.arange(5)
    )


def algorithm(**changes: float) -> ICT:
    return ICT(mse, **{"alpha": 0.3, "ema": 0.9, "weight": 100.0, "ramp_up": 0.5, **changes})


def fix_draws(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(torch, "randperm", lambda count, **_: torch.tensor(PARTNER))
    patch.setattr(ict, "mixup_coefficients", lambda *_: torch.tensor(SHARE))


def logits_of(model: nn.Module, images: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        logits: np.ndarray = model(torch.from_numpy(images)).numpy()
    return logits


def mixed(values: np.ndarray, partner: list[int], share: list[float]) -> np.ndarray:
    pairs = zip(share, values, values[partner], strict=True)
    return np.stack([s * one + (1 - s) * other for s, one, other in pairs])


def consistency_of(
    models: dict[str, nn.Module], batch: Batch, partner: list[int], share: list[float]
) -> float:
    images = batch.unlabelled[0].numpy()
    target = mixed(softmax(logits_of(models["teacher"], images), axis=1), partner, share)
    prediction = softmax(logits_of(models["student"], mixed(images, partner, share)), axis=1)
    return float(((prediction - target) ** 2).sum() / (5 * 4))


def test_loss_is_the_papers_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    models, batch = two_networks(), example()
    fix_draws(monkeypatch)
    output = algorithm().step(models, batch, Progress(torch.tensor(1.0), 8))
    labelled = log_softmax(logits_of(models["student"], batch.labelled[0].numpy()), axis=1)
    supervised = -np.mean([row[k] for row, k in zip(labelled, batch.targets.tolist(), strict=True)])
    shares = torch.tensor(SHARE).double().tolist()  # as float32 has them
    consistency = consistency_of(models, batch, PARTNER, shares)
    weight = 100 * math.exp(-5 * (1 - 0.25) ** 2)
    assert output.terms["supervised"].item() == pytest.approx(supervised, rel=1e-12)
    assert output.terms["consistency"].item() == pytest.approx(consistency, rel=1e-12)
    assert output.losses["main"].item() == pytest.approx(supervised + weight * consistency, rel=1e-6)
    assert output.monitors["consistency_weight"].item() == pytest.approx(weight, rel=1e-6)


def test_draws_are_partners_then_a_share_for_each_pair() -> None:
    models, batch = two_networks(), example()
    torch.manual_seed(2)
    found = algorithm().step(models, batch, Progress(torch.tensor(1.0), 8)).terms["consistency"]
    torch.manual_seed(2)
    partner = torch.randperm(5).tolist()
    share = Beta(torch.full((5,), 0.3), torch.full((5,), 0.3)).sample().double().tolist()
    assert found.item() == pytest.approx(consistency_of(models, batch, partner, share), rel=1e-12)


def test_target_is_the_mixture_of_predictions_not_the_prediction_at_the_mixture(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    models, batch = two_networks(), example()
    fix_draws(monkeypatch)
    seen: list[tuple[Tensor, Tensor]] = []

    def spy(logits: Tensor, target: Tensor) -> Tensor:
        seen.append((logits, target))
        return mse(logits, target)

    output = ICT(spy, alpha=0.3, ema=0.9, weight=1.0, ramp_up=0.0).step(
        models, batch, Progress(torch.tensor(0.0), 8)
    )
    ((logits, target),) = seen
    images = batch.unlabelled[0].numpy()
    of_predictions = mixed(softmax(logits_of(models["teacher"], images), axis=1), PARTNER, SHARE)
    at_mixture = softmax(logits_of(models["teacher"], mixed(images, PARTNER, SHARE)), axis=1)
    np.testing.assert_allclose(target.numpy(), of_predictions, rtol=1e-6)
    assert np.abs(target.numpy() - at_mixture).max() > 0.01
    np.testing.assert_allclose(
        logits.detach().numpy(), logits_of(models["student"], mixed(images, PARTNER, SHARE)), rtol=1e-6
    )
    assert not target.requires_grad
    torch.autograd.backward(output.losses["main"])
    assert all(parameter.grad is None for parameter in models["teacher"].parameters())
    first = models["student"].get_parameter("1.weight")
    assert first.grad is not None
    assert first.grad.abs().max() > 0


def test_consistency_is_not_zero_while_the_teacher_equals_the_student() -> None:
    torch.manual_seed(3)
    method = algorithm(alpha=2.0)
    models = method.build(network)
    output = method.step(models, example(), Progress(torch.tensor(0.0), 8))
    assert output.terms["consistency"].item() > 1e-4


def test_statistics_come_from_labelled_and_unmixed_images() -> None:
    torch.manual_seed(4)
    layer = nn.BatchNorm1d(12, momentum=None).double()  # a plain mean over the passes
    method = algorithm(alpha=2.0)
    models = method.build(lambda: nn.Sequential(nn.Flatten(), layer, nn.Linear(12, 4).double()))
    batch = example()
    method.step(models, batch, Progress(torch.tensor(0.0), 8))
    means = [images.flatten(1).mean(0) for images in (batch.labelled[0], batch.unlabelled[0])]
    torch.testing.assert_close(models["student"].get_buffer("1.running_mean"), (means[0] + means[1]) / 2)
    assert models["teacher"].get_buffer("1.num_batches_tracked") == 0


def test_teacher_follows_the_student() -> None:
    torch.manual_seed(5)
    method = algorithm(ema=0.6)
    models = method.build(network)
    student, teacher = (models[name].get_parameter("1.weight") for name in ("student", "teacher"))
    expected = torch.zeros_like(teacher)
    for step in range(4):
        with torch.no_grad():
            student.add_(torch.randn_like(student))
        move_averages(models, method.averages, Progress(torch.tensor(float(step)), 8))
        decay = min(1 - 1 / (step + 1), 0.6)
        expected = decay * expected + (1 - decay) * student.detach()
    torch.testing.assert_close(teacher, expected, rtol=1e-6, atol=1e-6)
    assert method.predictors[0] == "teacher"
