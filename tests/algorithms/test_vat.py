from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.functional import hessian

from sslbench.algorithms.vat import VAT, adversarial_direction, unit_length
from sslbench.core import Batch, Distance, Progress
from sslbench.losses import js, kl, mse


def smooth_model(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, 4)).double()


def top_eigenvector(model: nn.Module, image: Tensor, distance: Distance) -> Tensor:
    """Of the exact Hessian of ``distance(f(x + r), f(x))`` in r, at r = 0."""
    target = model(image[None]).softmax(1).detach()

    def moved(r: Tensor) -> Tensor:
        return distance(model((image + r.view_as(image))[None]), target).sum()

    values, vectors = torch.linalg.eigh(hessian(moved, torch.zeros(image.numel(), dtype=torch.float64)))
    assert values[-1] > 0
    return vectors[:, -1]


@pytest.mark.parametrize("distance", [kl, js, mse])
def test_power_iteration_finds_the_top_eigenvector_of_the_hessian(distance: Distance) -> None:
    model = smooth_model(0)
    images = torch.randn(5, 1, 3, 4, dtype=torch.float64)
    target = model(images).softmax(1).detach()
    direction = adversarial_direction(model, images, target, distance, xi=1e-3, iterations=50)
    for image, found in zip(images, direction, strict=True):
        assert abs(found.flatten() @ top_eigenvector(model, image, distance)).item() > 0.99


def test_one_iteration_beats_chance_by_far() -> None:
    model = smooth_model(1)
    images = torch.randn(64, 1, 3, 4, dtype=torch.float64)
    target = model(images).softmax(1).detach()
    found = adversarial_direction(model, images, target, kl, xi=1e-3, iterations=1)
    moved = kl(model(images + 0.5 * found), target)
    by_chance = kl(model(images + 0.5 * unit_length(torch.randn_like(images))), target)
    assert moved.mean() > 2 * by_chance.mean()


def test_default_xi_agrees_with_the_exact_direction_in_float32() -> None:
    """The gradient at the published 1e-6 drowns in float32 rounding; the shipped 0.1 must not."""
    model = smooth_model(2)
    images = torch.randn(16, 1, 3, 4, dtype=torch.float64)
    exact = torch.stack([top_eigenvector(model, image, kl) for image in images])
    single = model.float()
    target = single(images.float()).softmax(1).detach()
    found = adversarial_direction(single, images.float(), target, kl, xi=0.1, iterations=20)
    cosine = (found.flatten(1).double() * exact).sum(1).abs()
    assert cosine.median() > 0.9


def test_direction_is_detached_of_unit_length_and_leaves_the_weights_alone() -> None:
    model = smooth_model(3)
    images = torch.randn(7, 1, 3, 4, dtype=torch.float64)
    target = model(images).softmax(1).detach()
    direction = adversarial_direction(model, images, target, kl, xi=0.1, iterations=2)
    assert direction.shape == images.shape
    assert not direction.requires_grad
    torch.testing.assert_close(direction.flatten(1).norm(dim=1), torch.ones(7, dtype=torch.float64))
    assert all(p.grad is None for p in model.parameters())


def test_bfloat16_does_not_turn_the_direction() -> None:
    """Under autocast the difference is taken between two float32 passes, whatever the target's precision."""
    torch.manual_seed(8)
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.Tanh(), nn.Flatten(), nn.Linear(16 * 30 * 30, 10))
    images = torch.randn(16, 3, 32, 32)
    target = model(images).softmax(1).detach()
    found = []
    for enabled in (False, True):
        torch.manual_seed(9)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled, cache_enabled=False):
            rounded = model(images).softmax(1).detach() if enabled else target
            found.append(adversarial_direction(model, images, rounded, kl, xi=0.1, iterations=1))
    assert (found[0] * found[1]).flatten(1).sum(1).min() > 0.999


def test_unit_length_of_tiny_and_zero_gradients() -> None:
    tiny = torch.full((1, 4), 1e-30)
    torch.testing.assert_close(unit_length(tiny), torch.full((1, 4), 0.5))
    assert torch.equal(unit_length(torch.zeros(2, 3)), torch.zeros(2, 3))


def example() -> Batch:
    torch.manual_seed(4)
    targets = torch.randint(0, 4, (6,))
    return Batch((torch.randn(6, 1, 3, 4).double(),), targets, (torch.randn(9, 1, 3, 4).double(),), targets)


def vat(**changes: float) -> VAT:
    arguments = {"eps": 0.5, "xi": 0.1, "weight": 1.0, "entropy_weight": 0.0, "ramp_up": 0.0, **changes}
    return VAT(distance=kl, iterations=1, **arguments)


def test_loss_is_the_weighted_sum_of_its_terms() -> None:
    model, batch = smooth_model(5), example()
    halfway = Progress(torch.tensor(25.0), 100)
    output = vat(weight=0.3, entropy_weight=0.06, ramp_up=0.5).step({"student": model}, batch, halfway)
    ramp = math.exp(-5 * 0.25)
    terms = output.terms
    expected = terms["supervised"] + ramp * (0.3 * terms["consistency"] + 0.06 * terms["entropy"])
    torch.testing.assert_close(output.loss, expected)
    assert output.monitors["consistency_weight"].item() == pytest.approx(0.3 * ramp)


def test_entropy_term_sends_its_own_gradient() -> None:
    model, batch = smooth_model(6), example()
    output = vat(weight=0.0, entropy_weight=1.0).step(
        {"student": model}, batch, Progress(torch.tensor(1.0), 2)
    )
    probabilities = model(batch.unlabelled[0]).softmax(1)
    torch.testing.assert_close(output.terms["entropy"], -(probabilities * probabilities.log()).sum(1).mean())
    first = next(model.parameters())
    (gradient,) = torch.autograd.grad(output.loss - output.terms["supervised"], first)
    assert gradient.abs().max() > 0
