from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sslbench.core import DataSpec
from sslbench.data.views import DeviceImages, ImageTransform
from sslbench.models import ConvGenerator, MLPGenerator
from sslbench.models.generator import PixelRange

SMALL: dict[type[nn.Module], dict[str, Any]] = {ConvGenerator: {"width": 4}, MLPGenerator: {"hidden": [8]}}
SHAPES = [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 30, 30), (2, 7, 10)]
COLOUR = ImageTransform([0.5, 0.2, 0.7], [0.5, 0.1, 2.0], [])
every_kind = pytest.mark.parametrize("kind", SMALL)


def build(
    kind: type[nn.Module],
    shape: tuple[int, int, int] = (1, 8, 8),
    transform: ImageTransform | None = None,
    **options: Any,
) -> Any:
    torch.manual_seed(0)
    black, white = (transform or ImageTransform([0.5], [0.5], [])).range(shape[0])
    return kind(DataSpec(*shape, num_classes=10), black, white, **{**SMALL[kind], **options})


@every_kind
@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_and_gradients(kind: type[nn.Module], shape: tuple[int, int, int]) -> None:
    generator = build(kind, shape, noise_size=7)
    assert generator.noise_size == 7
    images = generator(torch.rand(5, 7))
    assert images.shape == (5, *shape)
    assert (images.amax(0) > images.amin(0)).all(), "every pixel depends on the noise"
    images.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in generator.parameters())


@every_kind
def test_the_default_takes_100_numbers(kind: type[nn.Module]) -> None:
    assert build(kind)(torch.rand(2, 100)).shape == (2, 1, 8, 8)


@every_kind
def test_images_lie_between_black_and_white(kind: type[nn.Module]) -> None:
    black, white = (torch.tensor(bound).view(3, 1, 1) for bound in COLOUR.range(3))
    generator = build(kind, (3, 8, 8), COLOUR)
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter.mul_(30)  # so that the sigmoid is near its ends
        images = generator(torch.rand(20, 100))
    assert (images >= black - 1e-6).all()
    assert (images <= white + 1e-6).all()
    spread = (images.amax((0, 2, 3)) - images.amin((0, 2, 3))) / (white - black).flatten()
    assert (spread > 0.9).all()


def test_range_ends_at_black_and_white_and_is_grey_at_zero() -> None:
    black, white = (torch.tensor(bound) for bound in COLOUR.range(3))
    bounds = PixelRange(*COLOUR.range(3))
    for number, expected in ((-100.0, black), (0.0, (black + white) / 2), (100.0, white)):
        found = bounds(torch.full((2, 3, 4, 5), number))
        torch.testing.assert_close(found, expected.view(1, 3, 1, 1).expand(2, 3, 4, 5))


def test_pixels_inverts_the_normalisation() -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(4, 8, 8)
    pixels = np.stack([grey, 255 - grey, np.roll(grey, 9)], axis=3)
    inputs = DeviceImages(pixels, COLOUR, torch.device("cpu")).clean(torch.arange(4))
    bounds = PixelRange(*COLOUR.range(3))
    found = bounds.pixels(inputs)
    assert found.dtype == torch.uint8
    np.testing.assert_array_equal(found.numpy(), pixels.transpose(0, 3, 1, 2))
    assert bounds.pixels(inputs - 100).max() == 0
    assert bounds.pixels(inputs + 100).min() == 255


@every_kind
def test_images_in_bfloat16_passes_are_float32(kind: type[nn.Module]) -> None:
    generator = build(kind)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        images = generator(torch.rand(4, 100))
    assert images.dtype == torch.float32
    assert images.isfinite().all()


@every_kind
def test_whitened_data_have_no_bounds(kind: type[nn.Module]) -> None:
    whitened = ImageTransform([0.5], [0.5], [], preprocess="gcn_zca")
    with pytest.raises(ValueError, match=r"whitened images have no bounds .* preprocess=none") as error:
        build(kind, transform=whitened)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (ConvGenerator, {"noise_size": 0}, "noise_size=0 must be at least 1"),
        (MLPGenerator, {"noise_size": 0}, "noise_size=0 must be at least 1"),
        (ConvGenerator, {"width": 0}, "width=0"),
        (MLPGenerator, {"hidden": [8, 0]}, r"hidden\[1\]=0"),
    ],
)
def test_bad_hyperparameters_are_named(kind: type[nn.Module], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(kind, **options)


def test_mlp_generator_layers() -> None:
    body = build(MLPGenerator, hidden=[8, 6], noise_size=5).body
    dense = [layer for layer in body if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in dense] == [(5, 8), (8, 6), (6, 64)]
    assert [nn.utils.parametrize.is_parametrized(layer, "weight") for layer in dense] == [False, False, True]
    assert [layer.num_features for layer in body if isinstance(layer, nn.BatchNorm1d)] == [8, 6]
