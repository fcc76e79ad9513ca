"""Each operation against the function of PIL that published code calls."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

from sslbench.data.operations import OPERATIONS

Pixels = NDArray[np.uint8]


def affine(image: Image.Image, *matrix: float) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix)


BY_PIL: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    "identity": lambda image, _: image,
    "autocontrast": lambda image, _: ImageOps.autocontrast(image),
    "equalize": lambda image, _: ImageOps.equalize(image),
    "brightness": lambda image, factor: ImageEnhance.Brightness(image).enhance(factor),
    "color": lambda image, factor: ImageEnhance.Color(image).enhance(factor),
    "contrast": lambda image, factor: ImageEnhance.Contrast(image).enhance(factor),
    "sharpness": lambda image, factor: ImageEnhance.Sharpness(image).enhance(factor),
    "posterize": lambda image, bits: ImageOps.posterize(image, int(bits)),
    "solarize": lambda image, threshold: ImageOps.solarize(image, int(threshold)),
    "rotate": lambda image, degrees: image.rotate(degrees),
    "shear_x": lambda image, shear: affine(image, 1, shear, 0, 0, 1, 0),
    "shear_y": lambda image, shear: affine(image, 1, 0, 0, shear, 1, 0),
    "translate_x": lambda image, share: affine(image, 1, 0, int(share * image.width), 0, 1, 0),
    "translate_y": lambda image, share: affine(image, 1, 0, 0, 0, 1, int(share * image.height)),
}
#: Magnitudes between which the operations are compared.
MAGNITUDES = {
    **dict.fromkeys(("brightness", "color", "contrast", "sharpness"), (0.05, 1.95)),
    "posterize": (1, 9),
    "solarize": (0, 257),
    "rotate": (-180, 180),
    **dict.fromkeys(("shear_x", "shear_y", "translate_x", "translate_y"), (-0.95, 0.95)),
}


def images(channels: int) -> Pixels:
    """Not square; uniform noise, dark noise, noise about one grey, and single colours."""
    chance = np.random.default_rng(0)
    shape = (40, 20, 28, channels)
    uniform = chance.integers(0, 256, shape)
    around_one_grey = np.clip(chance.normal(120, 9, shape), 0, 255)
    flat = np.broadcast_to(chance.integers(0, 256, (40, 1, 1, channels)), shape)
    return np.concatenate([uniform, uniform // 4 + 30, around_one_grey, flat]).astype(np.uint8)


def by_pil(name: str, image: Pixels, magnitude: float) -> Pixels:
    picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    return np.asarray(BY_PIL[name](picture, magnitude)).reshape(image.shape)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", OPERATIONS)
def test_as_pil_does_it(name: str, channels: int) -> None:
    pixels = images(channels)
    magnitudes = np.random.default_rng(1).uniform(*MAGNITUDES.get(name, (0, 1)), len(pixels))
    magnitudes = magnitudes.astype(np.float32)
    if name in ("posterize", "solarize"):  # PIL takes whole numbers
        magnitudes = np.floor(magnitudes)
    fill = torch.zeros(channels, dtype=torch.uint8)
    found = OPERATIONS[name].apply(torch.from_numpy(pixels), torch.from_numpy(magnitudes), fill).numpy()
    expected = np.stack(
        [by_pil(name, image, float(amount)) for image, amount in zip(pixels, magnitudes, strict=True)]
    )
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, expected)
    if name != "identity" and (name != "color" or channels == 3):
        assert (found != pixels).any(), "the images show nothing"


IDENTITIES = {
    **dict.fromkeys(("brightness", "color", "contrast", "sharpness"), 1.0),
    "posterize": 8.0,
    "solarize": 256.0,
    **dict.fromkeys(("rotate", "shear_x", "shear_y", "translate_x", "translate_y"), 0.0),
}


@pytest.mark.parametrize("name", IDENTITIES)
def test_the_magnitude_of_no_change_changes_no_bit(name: str) -> None:
    pixels = torch.from_numpy(images(3))
    amount = torch.full((len(pixels),), IDENTITIES[name])
    fill = torch.full((3,), 9, dtype=torch.uint8)
    assert torch.equal(OPERATIONS[name].apply(pixels, amount, fill), pixels)


@pytest.mark.parametrize("name", ["rotate", "shear_x", "shear_y", "translate_x", "translate_y"])
def test_what_is_out_of_view_is_filled(name: str) -> None:
    pixels = torch.full((1, 9, 9, 3), 200, dtype=torch.uint8)
    amount = torch.tensor([45.0 if name == "rotate" else 0.5])
    fill = torch.tensor([1, 2, 3], dtype=torch.uint8)
    moved = OPERATIONS[name].apply(pixels, amount, fill).view(-1, 3)
    assert {tuple(pixel) for pixel in moved.tolist()} == {(200, 200, 200), (1, 2, 3)}


@pytest.mark.parametrize("name", OPERATIONS)
def test_samples_have_magnitudes_of_their_own(name: str) -> None:
    pixels = torch.from_numpy(images(3)[:2])
    low, high = MAGNITUDES.get(name, (0, 1))
    amounts = torch.tensor([low + 0.125 * (high - low), low + 0.75 * (high - low)])
    fill = torch.zeros(3, dtype=torch.uint8)
    together = OPERATIONS[name].apply(pixels, amounts, fill)
    for position in range(2):
        one = slice(position, position + 1)
        assert torch.equal(together[one], OPERATIONS[name].apply(pixels[one], amounts[one], fill))
