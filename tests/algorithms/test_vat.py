from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.functional import hessian

from sslbench.algorithms.vat import VAT, adversarial_direction, unit_length
from sslbench.core import Batch, Distance, Progress
from sslbench.losses import js, kl, mse
from sslbench.models.noise import GaussianNoise, SameNoise


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


def example(labelled: int = 6, unlabelled: int = 9) -> Batch:
    torch.manual_seed(4)
    targets = torch.randint(0, 4, (labelled,))
    images = [torch.randn(count, 1, 3, 4).double() for count in (labelled, unlabelled)]
    return Batch((images[0],), targets, (images[1],), targets, targets)


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
    torch.testing.assert_close(output.losses["main"], expected)
    assert output.monitors["consistency_weight"].item() == pytest.approx(0.3 * ramp)


def test_entropy_term_sends_its_own_gradient() -> None:
    model, batch = smooth_model(6), example()
    output = vat(weight=0.0, entropy_weight=1.0).step(
        {"student": model}, batch, Progress(torch.tensor(1.0), 2)
    )
    probabilities = model(batch.unlabelled[0]).softmax(1)
    torch.testing.assert_close(output.terms["entropy"], -(probabilities * probabilities.log()).sum(1).mean())
    first = next(model.parameters())
    (gradient,) = torch.autograd.grad(output.losses["main"] - output.terms["supervised"], first)
    assert gradient.abs().max() > 0


class Watched(nn.Module):
    """A smooth network with noise after its first layer; keeps the images and the noise of each pass."""

    def __init__(self, noise: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.first = nn.Sequential(nn.Flatten(), nn.Linear(12, 16), nn.Tanh()).double()
        self.last = nn.Linear(16, 4).double()
        self.noise = noise
        self.images: list[Tensor] = []
        self.masks: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        noisy: Tensor = self.noise(hidden)
        self.images.append(x.detach())
        self.masks.append((noisy / hidden if isinstance(self.noise, nn.Dropout) else noisy - hidden).detach())
        logits: Tensor = self.last(noisy)
        return logits

    def with_mask(self, mask: Tensor) -> nn.Module:
        """The network at one row of `masks`, for one image."""
        return nn.Sequential(self.first, Fixed(mask, isinstance(self.noise, nn.Dropout)), self.last)


class Fixed(nn.Module):
    def __init__(self, mask: Tensor, multiplies: bool) -> None:
        super().__init__()
        self.mask, self.multiplies = mask, multiplies

    def forward(self, x: Tensor) -> Tensor:
        return x * self.mask if self.multiplies else x + self.mask


NOISE = {"dropout": lambda: nn.Dropout(0.5), "gaussian": lambda: GaussianNoise(2.0)}
each_noise = pytest.mark.parametrize("noise", NOISE)


def stepped(noise: str, steps: int = 1, **changes: float) -> Watched:
    """After steps with batches of equal size, each of four passes: labelled, clean, search, perturbed."""
    model, batch = Watched(NOISE[noise]()), example(9, 9)
    for step in range(steps):
        vat(**changes).step({"student": model}, batch, Progress(torch.tensor(float(step)), 10))
    return model


@each_noise
def test_search_and_perturbed_pass_have_the_masks_of_the_clean_pass(noise: str) -> None:
    masks = stepped(noise, steps=2).masks
    assert len(masks) == 8
    for clean in (1, 5):
        for later in (clean + 1, clean + 2):
            torch.testing.assert_close(masks[later], masks[clean], rtol=0, atol=1e-12)
    drawn = [masks[place] for place in (0, 1, 4, 5)]  # labelled and clean passes of two steps
    assert all(not torch.allclose(a, b) for i, a in enumerate(drawn) for b in drawn[:i])
    assert all(not torch.allclose(mask[0], mask[1]) for mask in drawn), "each image has its own"


@each_noise
def test_a_step_finds_the_top_eigenvector_of_the_hessian_at_the_masks_of_the_clean_pass(noise: str) -> None:
    model = Watched(NOISE[noise]())
    algorithm = VAT(kl, eps=0.5, xi=1e-3, iterations=50, weight=1.0, entropy_weight=0.0, ramp_up=0.0)
    algorithm.step({"student": model}, example(), Progress(torch.tensor(0.0), 10))
    clean, perturbed, masks = model.images[1], model.images[-1], model.masks[1]
    for image, moved, mask in zip(clean, perturbed, masks, strict=True):
        found = (moved - image).flatten() / 0.5
        assert abs(found @ top_eigenvector(model.with_mask(mask), image, kl)).item() > 0.99


@each_noise
def test_no_perturbation_moves_no_prediction(noise: str) -> None:
    """The distance and its gradient are zero at r = 0: only so is the distance a quadratic form there."""
    same = SameNoise(Watched(NOISE[noise]()))
    images = torch.randn(9, 1, 3, 4, dtype=torch.float64)
    target = same(images).softmax(1).detach()
    r = torch.zeros_like(images, requires_grad=True)
    distance = kl(same(images + r), target)
    torch.testing.assert_close(distance, torch.zeros_like(distance), rtol=0, atol=1e-12)
    (gradient,) = torch.autograd.grad(distance.sum(), r)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-12)


@each_noise
def test_where_the_search_ends_depends_on_the_masks_and_not_on_its_start(noise: str) -> None:
    model, images = Watched(NOISE[noise]()), torch.randn(9, 1, 3, 4, dtype=torch.float64)

    def directions(same: SameNoise) -> Tensor:
        target = same(images).softmax(1).detach()
        return torch.stack(
            [
                adversarial_direction(same, images, target, kl, xi=1e-3, iterations=50).flatten(1)
                for _ in range(2)  # each from a random start of its own
            ]
        )

    one, other = directions(SameNoise(model)), directions(SameNoise(model))
    assert ((one[0] * one[1]).sum(1).abs() > 0.99).all()
    assert (one[0] * other[0]).sum(1).abs().median() < 0.99


def test_bfloat16_searches_with_the_masks_of_the_clean_pass() -> None:
    torch.manual_seed(8)
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 64), nn.Tanh(), nn.Dropout(0.3), nn.Linear(64, 10))
    same, images = SameNoise(model), torch.randn(16, 3, 8, 8)
    found = []
    for enabled in (True, False):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled, cache_enabled=False):
            target = same(images).softmax(1).detach()
            torch.manual_seed(9)
            found.append(adversarial_direction(same, images, target, kl, xi=0.1, iterations=1))
    assert (found[0] * found[1]).flatten(1).sum(1).min() > 0.999
