from __future__ import annotations

import pytest
import torch

from sslbench.models.noise import GaussianNoise


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
    with pytest.raises(ValueError, match=r"noise is -0\.1: set it to 0 or more"):
        GaussianNoise(-0.1)
