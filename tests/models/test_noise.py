from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.nn import functional

from sslbench.errors import UserError
from sslbench.models import CNN, ConvLarge, NoisyMLP, frozen_batch_stats
from sslbench.models.noise import GaussianNoise, SameNoise


def test_training_adds_noise_of_that_size_from_the_global_stream() -> None:
    x = torch.linspace(-3, 3, 20_000).view(100, 200)
    torch.manual_seed(0)
    noise = GaussianNoise(0.3)(x) - x
    assert noise.mean().item() == pytest.approx(0, abs=0.01)
    assert noise.std().item() == pytest.approx(0.3, rel=0.02)
    assert (noise.std(dim=0) > 0.2).all(), "each image has its own"
    torch.manual_seed(0)
    torch.testing.assert_close(noise, 0.3 * torch.randn(100, 200), rtol=0, atol=1e-6)


def test_the_input_is_left_alone_and_the_gradient_passes() -> None:
    x = torch.ones(2, 3, requires_grad=True)
    GaussianNoise(0.5)(x).sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, torch.ones(2, 3))
    assert torch.equal(x, torch.ones(2, 3))


@pytest.mark.parametrize(("std", "training"), [(0.5, False), (0.0, True)])
def test_no_noise_draws_nothing(std: float, training: bool) -> None:
    layer, x = GaussianNoise(std).train(training), torch.randn(4, 5)
    before = torch.get_rng_state()
    assert torch.equal(layer(x), x)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_negative_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"noise=-0\.1 must not be negative"):
        GaussianNoise(-0.1)


class DropPath(nn.Module):
    """Leaves whole images out, as stochastic depth does; draws in a way of its own."""

    def forward(self, x: Tensor) -> Tensor:
        return x * x.new_empty(len(x), 1).bernoulli_(0.5)


class Shared(nn.Module):
    """One dropout layer in three places of a pass, and dropout as a function, in place."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = nn.Dropout(0.3)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):
            x = self.dropout(x) + 1
        return functional.dropout(2 * x, 0.6, self.training, inplace=True)


def drawn_by_hand(x: Tensor) -> Tensor:
    halves = torch.full_like(x, 0.5)
    return (
        x + torch.randn(x.shape).mul_(3) + torch.rand(x.shape) + torch.bernoulli(halves) + halves.bernoulli()
    )


def drawn_alike(x: Tensor) -> Tensor:
    return x + torch.rand_like(x) + torch.randn_like(x)


#: Of images [N, 8].
NOISY: dict[str, Callable[[Tensor], Tensor]] = {
    "dropout": nn.Sequential(
        nn.Linear(8, 8), nn.Dropout(0.5), nn.Linear(8, 8), nn.Dropout(0.2, inplace=True)
    ),
    "dropout1d": nn.Sequential(nn.Unflatten(1, (4, 2)), nn.Dropout1d(0.5), nn.Flatten()),
    "dropout2d": nn.Sequential(nn.Unflatten(1, (2, 2, 2)), nn.Dropout2d(0.5), nn.Flatten()),
    "dropout3d": nn.Sequential(nn.Unflatten(1, (4, 2, 1, 1)), nn.Dropout3d(0.5), nn.Flatten()),
    "gaussian": nn.Sequential(GaussianNoise(0.3), nn.Dropout(0.5), GaussianNoise(0.7)),
    "drop_path": DropPath(),
    "shared": Shared(),
    "functions": drawn_by_hand,
    "alike": drawn_alike,
}
each_kind = pytest.mark.parametrize("kind", NOISY)


@each_kind
def test_every_pass_has_the_noise_of_the_first(kind: str) -> None:
    model, x = NOISY[kind], torch.rand(40, 8) + 1
    assert not torch.equal(model(x), model(x)), "without noise, this shows nothing"
    same = SameNoise(model)
    first = same(x)
    before = first.clone()
    assert all(torch.equal(same(x), before) for _ in range(3))
    assert not torch.equal(same(x + 1), before), "the images still count"
    assert torch.equal(first, before)
    assert not torch.equal(SameNoise(model)(x), before), "another one draws anew"


@each_kind
def test_the_first_pass_draws_as_the_model_alone(kind: str) -> None:
    model, x = NOISY[kind], torch.rand(40, 8)
    torch.manual_seed(0)
    expected = model(x)
    state = torch.get_rng_state()
    torch.manual_seed(0)
    assert torch.equal(SameNoise(model)(x), expected)
    assert torch.equal(torch.get_rng_state(), state)


@each_kind
def test_gradients_are_those_at_the_fixed_noise(kind: str) -> None:
    model = copy.deepcopy(NOISY[kind])
    if isinstance(model, nn.Module):
        model.double()
    same, x = SameNoise(model), torch.rand(6, 8, dtype=torch.float64)
    same(x)
    assert torch.autograd.gradcheck(same, (x.requires_grad_(),))


@pytest.mark.parametrize(
    "make",
    [
        lambda: CNN(1, (12, 12), 3, width=4, dropout=0.5),
        lambda: ConvLarge(1, (12, 12), 3),
        lambda: NoisyMLP(1, (12, 12), 3, hidden=[16, 8]),
    ],
)
def test_networks_of_the_package(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    model, x = make(), torch.rand(6, 1, 12, 12)
    with frozen_batch_stats(model):
        same = SameNoise(model)
        assert torch.equal(same(x), same(x))
        assert not torch.equal(same(x), model(x))


def test_a_pass_of_another_precision_has_the_same_masks() -> None:
    model = nn.Sequential(nn.Linear(64, 64), GaussianNoise(0.5), nn.Dropout(0.5))
    same, x = SameNoise(model), torch.rand(32, 64)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = same(x)
    exact = same(x)
    assert (rounded.dtype, exact.dtype) == (torch.bfloat16, torch.float32)
    assert torch.equal(rounded == 0, exact == 0)
    torch.testing.assert_close(rounded.float(), exact, rtol=0.02, atol=0.03)


def test_a_pass_without_gradient_does_not_cut_that_of_a_later_one() -> None:
    model, x = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), GaussianNoise(0.1)), torch.rand(3, 4)
    same = SameNoise(model)
    with torch.no_grad():
        same(x)
    same(x).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("model", [nn.Dropout(0.0), nn.Dropout(0.5).eval(), nn.AlphaDropout(0.5).eval()])
def test_dropout_that_is_off_draws_nothing(model: nn.Module) -> None:
    same, x, state = SameNoise(model), torch.rand(4, 5), torch.get_rng_state()
    assert torch.equal(same(x), x)
    assert torch.equal(same(x), x)
    assert torch.equal(torch.get_rng_state(), state)


def test_everything_may_be_dropped() -> None:
    same = SameNoise(nn.Dropout(1.0))
    assert torch.equal(same(torch.ones(3, 4)), torch.zeros(3, 4))
    assert torch.equal(same(torch.ones(3, 4)), torch.zeros(3, 4))


@pytest.mark.parametrize("model", [nn.AlphaDropout(0.5), nn.FeatureAlphaDropout(0.5)])
def test_noise_that_cannot_be_repeated_is_refused(model: nn.Module) -> None:
    with pytest.raises(UserError, match="alpha dropout, whose noise cannot be repeated"):
        SameNoise(model)(torch.rand(3, 4))


def test_another_number_of_images_is_an_error() -> None:
    for model in (nn.Dropout(0.5), GaussianNoise(0.5)):
        same = SameNoise(model)
        same(torch.rand(3, 4))
        with pytest.raises(RuntimeError):
            same(torch.rand(5, 4))


@pytest.mark.parametrize("kind", [kind for kind in NOISY if kind != "alike"])
def test_a_compiled_model_repeats_its_noise_and_is_compiled_once(kind: str) -> None:
    torch._dynamo.reset()
    counters.clear()
    model = NOISY[kind]
    compiled = torch.compile(model, dynamic=False, backend="aot_eager")
    graphs = []
    for step in range(3):
        x, found = torch.rand(6, 8) + 1, []
        for passes in (model, compiled):
            torch.manual_seed(step)
            same = SameNoise(passes)
            found.append([same(x), same(x + 1), same(x)])
        torch.testing.assert_close(found[0], found[1])
        graphs.append(counters["stats"]["unique_graphs"])
    assert not counters["graph_break"]
    assert 0 < graphs[0] == graphs[-1] <= 2


def test_dropout_is_on_by_default() -> None:
    same, images = SameNoise(functional.dropout), torch.ones(1000)
    first = same(images)
    assert 400 < int((first == 2).sum()) < 600
    assert torch.equal(same(images), first)
