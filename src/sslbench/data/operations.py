"""The operations of strong augmentation: pixels to pixels, each sample with a magnitude of its own.

Each takes images, uint8 ``[B, H, W, C]``, their magnitudes, float32 ``[B]``, and ``fill``, uint8 ``[C]``, the
pixel that stands where an image is moved out of view. It returns uint8 ``[B, H, W, C]``, waits for no device
and draws nothing. The results are, bit for bit, those of PIL, whose functions the published code calls.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

Apply = Callable[[Tensor, Tensor, Tensor], Tensor]

_LUMA = (19595, 38470, 7471)  # PIL's conversion to grey, in units of 2**-16 (ITU-R 601-2)


def _fixed(value: Tensor) -> Tensor:
    """To 16 bits behind the point, as PIL reads pixels: int32."""
    return torch.floor(value * 65536 + 0.5).int()


def _affine(images: Tensor, fill: Tensor, rows: tuple[tuple[Tensor, ...], tuple[Tensor, ...]]) -> Tensor:
    """The nearest pixel at ``(a x + b y + c, d x + e y + f)`` for the pixel centre (x, y) of each sample.

    `rows` are (a, b, c) and (d, e, f), each float64 ``[B]``.
    """
    count, height, width, channels = images.shape
    down = torch.arange(height, dtype=torch.int32, device=images.device)[:, None]
    right = torch.arange(width, dtype=torch.int32, device=images.device)
    column, row = (
        (
            _fixed(c + a * 0.5 + b * 0.5)[:, None, None]
            + _fixed(b)[:, None, None] * down
            + _fixed(a)[:, None, None] * right
        )
        >> 16
        for a, b, c in rows
    )
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    first = torch.arange(count, dtype=torch.int32, device=images.device)[:, None, None] * (height * width)
    outside = count * height * width  # the place of `fill`, behind the images
    place = torch.where(inside, first + row * width + column, outside)
    pixels = torch.cat([images.reshape(-1, channels), fill[None]])
    return pixels.index_select(0, place.flatten()).view_as(images)


def _ones_and_zeros(amount: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The magnitudes as float64, beside as many ones and zeros."""
    exact = amount.double()
    return exact, torch.ones_like(exact), torch.zeros_like(exact)


def rotate(images: Tensor, amount: Tensor, fill: Tensor) -> Tensor:
    """Counter-clockwise about the centre, by degrees."""
    height, width = images.shape[1:3]
    angle = amount.double() * (-math.pi / 180)
    cos, sin = angle.cos(), angle.sin()
    x, y = width / 2, height / 2
    return _affine(images, fill, ((cos, sin, x - cos * x - sin * y), (-sin, cos, y + sin * x - cos * y)))


def shear_x(images: Tensor, amount: Tensor, fill: Tensor) -> Tensor:
    """Rows move to the left by this many pixels for each pixel below the upper edge."""
    shear, one, zero = _ones_and_zeros(amount)
    return _affine(images, fill, ((one, shear, zero), (zero, one, zero)))


def shear_y(images: Tensor, amount: Tensor, fill: Tensor) -> Tensor:
    """Columns move up by this many pixels for each pixel right of the left edge."""
    shear, one, zero = _ones_and_zeros(amount)
    return _affine(images, fill, ((one, zero, zero), (shear, one, zero)))


def translate_x(images: Tensor, amount: Tensor, fill: Tensor) -> Tensor:
    """To the left, by a share of the width."""
    share, one, zero = _ones_and_zeros(amount)
    return _affine(images, fill, ((one, zero, (share * images.shape[2]).trunc()), (zero, one, zero)))


def translate_y(images: Tensor, amount: Tensor, fill: Tensor) -> Tensor:
    """Upwards, by a share of the height."""
    share, one, zero = _ones_and_zeros(amount)
    return _affine(images, fill, ((one, zero, zero), (zero, one, (share * images.shape[1]).trunc())))


def _grey(images: Tensor) -> Tensor:
    """Brightness as PIL computes it, int32 ``[B, H, W, 1]``; grey images as they are."""
    if images.shape[3] != len(_LUMA):
        return images[..., :1].int()
    weights = torch.tensor(_LUMA, dtype=torch.int32, device=images.device)
    return ((images.int() * weights).sum(dim=3, keepdim=True, dtype=torch.int32) + 0x8000) >> 16


def _blend(base: Tensor, images: Tensor, amount: Tensor) -> Tensor:
    """``base + amount (images - base)``, cut off at 0 and 255; a magnitude of 1 changes nothing."""
    factor = amount.view(-1, 1, 1, 1)
    return (base + factor * (images - base)).clamp_(0, 255).to(torch.uint8)


def brightness(images: Tensor, amount: Tensor, fill: Tensor) -> Tensor:
    """Towards black: 0 is black, 1 the image, more is brighter."""
    return (images * amount.view(-1, 1, 1, 1)).clamp_(0, 255).to(torch.uint8)


def color(images: Tensor, amount: Tensor, fill: Tensor) -> Tensor:
    """Towards grey: 0 is the grey image, 1 the image."""
    return _blend(_grey(images), images, amount)


def contrast(images: Tensor, amount: Tensor, fill: Tensor) -> Tensor:
    """Towards the mean brightness of the image: 0 is uniformly grey, 1 the image."""
    mean = (_grey(images).double().mean(dim=(1, 2, 3), keepdim=True) + 0.5).floor().float()
    return _blend(mean, images, amount)


def sharpness(images: Tensor, amount: Tensor, fill: Tensor) -> Tensor:
    """Towards the smoothed image: 0 is smooth, 1 the image; the outermost pixels stay."""
    pixels = images.int()
    smooth = pixels.clone()
    rows = pixels[:, :-2] + pixels[:, 1:-1] + pixels[:, 2:]
    around = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]
    # The weights are 1, and 5 in the middle; of their sum 13, the nearest whole number.
    smooth[:, 1:-1, 1:-1] = (2 * (around + 4 * pixels[:, 1:-1, 1:-1]) + 13) // 26
    return _blend(smooth, images, amount)


def posterize(images: Tensor, amount: Tensor, fill: Tensor) -> Tensor:
    """Keeps this many of the 8 bits of each value."""
    lost = (8 - amount).int()
    return images & (255 - (2**lost - 1)).to(torch.uint8).view(-1, 1, 1, 1)


def solarize(images: Tensor, amount: Tensor, fill: Tensor) -> Tensor:
    """Inverts the values from this one, 0 to 256, on."""
    return torch.where(images < amount.view(-1, 1, 1, 1), images, 255 - images)


def autocontrast(images: Tensor, amount: Tensor, fill: Tensor) -> Tensor:
    """Stretches each channel to the values from 0 to 255; takes no magnitude."""
    low = images.amin(dim=(1, 2), keepdim=True).double()
    width = images.amax(dim=(1, 2), keepdim=True) - low
    # In float64 and in this order, so that what is cut off behind the point is PIL's. `255 / width` would be
    # 255 times the reciprocal.
    scale = torch.full_like(width, 255) / width
    stretched = (images * scale - low * scale).clamp_(0, 255).to(torch.uint8)
    return torch.where(width > 0, stretched, images)


def equalize(images: Tensor, amount: Tensor, fill: Tensor) -> Tensor:
    """Spreads the values of each channel so that all are equally frequent; takes no magnitude."""
    count, height, width, channels = images.shape
    values = images.permute(0, 3, 1, 2).reshape(count * channels, height * width).long()
    histogram = torch.zeros(count * channels, 256, dtype=torch.int64, device=images.device)
    histogram.scatter_add_(1, values, torch.ones_like(values))
    of_highest = histogram.gather(1, values.amax(dim=1, keepdim=True))
    step = (height * width - of_highest) // 255
    below = histogram.cumsum(dim=1) - histogram
    table = ((step // 2 + below) // step.clamp(min=1)).clamp_(max=255)
    spread = torch.where(step > 0, table.gather(1, values), values).to(torch.uint8)
    return spread.view(count, channels, height, width).permute(0, 2, 3, 1)


def identity(images: Tensor, amount: Tensor, fill: Tensor) -> Tensor:
    """The image; takes no magnitude."""
    return images


class Operation(NamedTuple):
    """An operation, and the magnitudes at which it is known.

    Attributes:
        apply: see the module.
        bounds: the least and the greatest magnitude that means something; None where it takes none.
    """

    apply: Apply
    bounds: tuple[float, float] | None = None


#: By name, in the order in which they are listed and drawn.
OPERATIONS: dict[str, Operation] = {
    "identity": Operation(identity),
    "autocontrast": Operation(autocontrast),
    "equalize": Operation(equalize),
    "brightness": Operation(brightness, (0, 10)),
    "color": Operation(color, (0, 10)),
    "contrast": Operation(contrast, (0, 10)),
    "sharpness": Operation(sharpness, (0, 10)),
    "posterize": Operation(posterize, (1, 8)),
    "solarize": Operation(solarize, (0, 256)),
    "rotate": Operation(rotate, (-180, 180)),
    "shear_x": Operation(shear_x, (-1, 1)),
    "shear_y": Operation(shear_y, (-1, 1)),
    "translate_x": Operation(translate_x, (-1, 1)),
    "translate_y": Operation(translate_y, (-1, 1)),
}
