from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.parametrize import is_parametrized

from sslbench.models import NoisyMLP
from sslbench.models.noise import GaussianNoise


def build(shape: tuple[int, int, int] = (1, 8, 8), **options: Any) -> NoisyMLP:
    torch.manual_seed(0)
    hidden = {"hidden": [16, 12]}
    return NoisyMLP(in_channels=shape[0], image_size=shape[1:], num_classes=5, **{**hidden, **options})


def of_type(model: nn.Module, kind: type[nn.Module]) -> list[Any]:
    return [module for module in model.modules() if isinstance(module, kind)]


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 8, 8), (2, 5, 7)])
def test_shapes_and_gradients(shape: tuple[int, int, int]) -> None:
    model = build(shape).eval()
    images = torch.randn(16, *shape)
    features, logits = model.features(images), model(images)
    assert features.shape == (16, 12)
    assert logits.shape == (16, 5)
    assert torch.equal(logits, model.classifier(features))
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_the_default_is_the_papers_network() -> None:
    dense = of_type(NoisyMLP(1, (28, 28), 10), nn.Linear)
    widths = [784, 1000, 500, 250, 250, 250, 10]
    shapes = [(layer.in_features, layer.out_features) for layer in dense]
    assert shapes == list(itertools.pairwise(widths))
    assert [layer.std for layer in of_type(NoisyMLP(1, (28, 28), 10), GaussianNoise)] == [0.3] + 5 * [0.5]


def test_noise_is_on_every_layers_input() -> None:
    model = build(input_noise=0.1, noise=0.7)
    layers = of_type(model, nn.Module)
    kinds = [type(layer).__name__ for layer in layers if isinstance(layer, GaussianNoise | nn.Linear)]
    assert kinds == 3 * ["GaussianNoise", "ParametrizedLinear"]
    assert [layer.std for layer in of_type(model, GaussianNoise)] == [0.1, 0.7, 0.7]
    assert all(is_parametrized(layer, "weight") for layer in of_type(model, nn.Linear))


@pytest.mark.parametrize("sizes", [{"input_noise": 0.0}, {"noise": 0.0}])
def test_noise_in_training_only(sizes: dict[str, float]) -> None:
    model, images = build(**sizes), torch.randn(4, 1, 8, 8)
    assert not torch.equal(model.features(images), model.features(images))
    model.eval()
    assert torch.equal(model(images), model(images))


def test_no_statistics_of_the_batch() -> None:
    model, images = build(input_noise=0.0, noise=0.0), torch.randn(6, 1, 8, 8)
    torch.testing.assert_close(model(images)[:2], model(images[:2]))
    assert of_type(model, _BatchNorm) == []
    assert not list(model.buffers())


def test_the_images_are_left_alone() -> None:
    model, images = build(input_noise=0.0, noise=0.0), torch.randn(3, 1, 8, 8)
    before = images.clone()
    model(images)
    assert torch.equal(images, before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": []}, "number of hidden layers=0"),
        ({"hidden": [16, 0]}, r"hidden\[1\]=0"),
        ({"noise": -0.1}, r"^noise=-0\.1 must not be negative"),
        ({"input_noise": -0.1}, r"^input_noise=-0\.1 must not be negative"),
    ],
)
def test_bad_hyperparameters_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        build(**options)
    assert "\n" not in str(error.value)
