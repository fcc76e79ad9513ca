from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import beta, kstest
from torch import Tensor

from sslbench.losses.mixup import mix, mixup_coefficients, sharpen

CPU = torch.device("cpu")


def drawn(rows: int = 6, classes: int = 5) -> Tensor:
    """Probabilities in float64."""
    generator = torch.Generator().manual_seed(0)
    return (2 * torch.randn(rows, classes, generator=generator, dtype=torch.float64)).softmax(1)


def sharpened(probabilities: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """The formula of the paper, scaled so that a small temperature does not underflow."""
    powers = (probabilities / probabilities.max(axis=1, keepdims=True)) ** (1 / temperature)
    scaled: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return scaled


@pytest.mark.parametrize("shape", [(4,), (4, 3), (4, 2, 5, 6)])
def test_mix_is_the_weighted_sum_of_each_pair(shape: tuple[int, ...]) -> None:
    generator = np.random.default_rng(1)
    one, other = generator.normal(size=(2, *shape))
    coefficient = np.array([0.0, 0.3, 0.8, 1.0])
    mixed = mix(torch.from_numpy(one), torch.from_numpy(other), torch.from_numpy(coefficient))
    expected = np.stack([s * a + (1 - s) * b for s, a, b in zip(coefficient, one, other, strict=True)])
    assert mixed.shape == shape
    np.testing.assert_allclose(mixed.numpy(), expected, rtol=1e-12)


def test_mix_keeps_an_image_whole_and_its_type() -> None:
    one, other = torch.rand(2, 3, 1, 2, 2)
    assert torch.equal(mix(one, other, torch.ones(3)), one)
    assert torch.equal(mix(one, other, torch.zeros(3)), other)
    assert mix(one.double(), other.double(), torch.rand(3)).dtype == torch.float64


def test_mix_splits_the_gradient() -> None:
    one, other = torch.rand(2, 3, 4, dtype=torch.float64)
    coefficient = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    one.requires_grad_()
    other.requires_grad_()
    mix(one, other, coefficient).sum().backward()
    torch.testing.assert_close(one.grad, coefficient[:, None].expand(3, 4))
    torch.testing.assert_close(other.grad, (1 - coefficient)[:, None].expand(3, 4))


@pytest.mark.parametrize("alpha", [0.5, 0.75, 2.0])
def test_coefficients_are_beta_distributed(alpha: float) -> None:
    torch.manual_seed(2)
    coefficients = mixup_coefficients(20_000, alpha, CPU)
    assert kstest(coefficients.double().numpy(), beta(alpha, alpha).cdf).pvalue > 0.01


def test_coefficients_are_beta_distributed_for_a_small_alpha() -> None:
    """Of coefficients near 1, float32 rounds a tenth to 1 itself, so the lower half is tested."""
    torch.manual_seed(3)
    coefficients = mixup_coefficients(20_000, 0.1, CPU).double().numpy()
    lower = coefficients[coefficients < 0.5]
    assert len(lower) == pytest.approx(10_000, abs=250)
    assert kstest(lower, lambda x: 2 * beta(0.1, 0.1).cdf(x)).pvalue > 0.01


def test_coefficients_come_from_the_global_stream_one_a_sample() -> None:
    torch.manual_seed(4)
    first, second = mixup_coefficients(7, 0.75, CPU), mixup_coefficients(7, 0.75, CPU)
    torch.manual_seed(4)
    assert torch.equal(mixup_coefficients(7, 0.75, CPU), first)
    assert not torch.equal(first, second)
    assert first.shape == (7,)
    assert len(first.unique()) == 7
    assert not first.requires_grad


@pytest.mark.parametrize("temperature", [1e-3, 0.05, 0.5, 1.0, 3.0, 1e3])
def test_sharpen_equals_the_formula(temperature: float) -> None:
    probabilities = drawn()
    found = sharpen(probabilities, temperature)
    assert found.shape == probabilities.shape
    np.testing.assert_allclose(
        found.numpy(), sharpened(probabilities.numpy(), temperature), rtol=1e-9, atol=1e-300
    )


def test_sharpen_at_its_limits() -> None:
    probabilities = drawn().float()
    most_probable = torch.nn.functional.one_hot(probabilities.argmax(1), 5).float()
    torch.testing.assert_close(sharpen(probabilities, 1e-4), most_probable)
    torch.testing.assert_close(sharpen(probabilities, 1.0), probabilities)
    torch.testing.assert_close(sharpen(probabilities, 1e6), torch.full((6, 5), 0.2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("temperature", [1e-3, 0.5, 1.0, 10.0, 1e3])
def test_sharpen_leaves_one_hot_rows_and_ties_as_they_are(temperature: float, dtype: torch.dtype) -> None:
    rows = torch.tensor([[0.0, 1.0, 0.0], [0.5, 0.0, 0.5], [1 / 3, 1 / 3, 1 / 3]], dtype=dtype)
    torch.testing.assert_close(sharpen(rows, temperature), rows)


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_sharpen_has_finite_gradients(temperature: float) -> None:
    probabilities = drawn().requires_grad_()
    assert torch.autograd.gradcheck(lambda p: sharpen(p, temperature), (probabilities,))
    certain = torch.eye(3, requires_grad=True)
    sharpen(certain, temperature)[:, 0].sum().backward()
    assert certain.grad is not None
    assert certain.grad.isfinite().all()
