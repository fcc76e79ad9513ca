"""Random masks that say which pixels of a mixture are an image's own; the others are its partner's."""

import math
from collections.abc import Sequence
from typing import Protocol, final

import torch
from torch import Tensor


class Masks(Protocol):
    """Draws masks."""

    def __call__(self, count: int, height: int, width: int, device: torch.device) -> Tensor:
        """One mask for each image, bool ``[count, 1, height, width]``, True where the pixel is its own.

        Drawn from the global random stream of `device`; never waits for it.
        """


def inside(rows: tuple[Tensor, Tensor], columns: tuple[Tensor, Tensor], height: int, width: int) -> Tensor:
    """Which pixels have their centres in a box, bool ``[B, 1, height, width]``.

    `rows` and `columns` are the first and the last edge of each box, ``[B]``, in pixels.
    """
    bands = []
    for (first, last), size in ((rows, height), (columns, width)):
        centre = torch.arange(size, device=first.device) + 0.5
        bands.append((centre >= first[:, None]) & (centre <= last[:, None]))
    return bands[0][:, None, :, None] & bands[1][:, None, None, :]


@final
class BoxMasks:
    """A box that is an image's own, of random area, shape and place (French et al., arXiv:1906.01916).

    As in the code of the authors' next paper (arXiv:2003.12022; github.com/google-research/google-research,
    milking_cowmask/masking/box_mask.py): the area is uniform, as a share of the image's; the logarithm of the
    ratio of the sides, each as a share of the image's, is uniform between those at which one of them fills
    the image; and the box lies within the image.
    """

    def __call__(self, count: int, height: int, width: int, device: torch.device) -> Tensor:
        """See `Masks`."""
        area, shape, row, column = torch.rand(4, count, device=device)
        # With area a, the sides are a^s and a^(1 - s), with s uniform.
        tall, wide = area**shape * height, area ** (1 - shape) * width
        top, left = row * (height - tall), column * (width - wide)
        return inside((top, top + tall), (left, left + wide), height, width)


@final
class CowMasks:
    """Blots of irregular form, like those of a cow (French et al., arXiv:2003.12022, section 3.1).

    Gaussian noise is smoothed, and a pixel is the partner's where the result is at most its mean plus
    ``sqrt(2) erfinv(2 p - 1)`` standard deviations, over this image. So the partner has about a share p of
    the pixels. Beyond the borders the noise is 0, as in the authors' code
    (github.com/google-research/google-research, milking_cowmask/masking/cow_mask.py).

    Args:
        smoothing: least and greatest standard deviation of the smoothing, as a share of the image's shorter
            side; drawn for each image, log-uniformly. Above 0.
        partner: least and greatest share p of the partner, in (0, 1); drawn for each image, uniformly.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(self, smoothing: Sequence[float], partner: Sequence[float]) -> None:
        if not (len(smoothing) == 2 and 0 < smoothing[0] <= smoothing[1]):
            raise ValueError(f"smoothing={list(smoothing)} must be two numbers above 0 in ascending order")
        if not (len(partner) == 2 and 0 < partner[0] <= partner[1] < 1):
            raise ValueError(
                f"partner={list(partner)} must be two numbers between 0 and 1 in ascending order"
            )
        self._smoothing, self._partner = tuple(smoothing), tuple(partner)

    def __call__(self, count: int, height: int, width: int, device: torch.device) -> Tensor:
        """See `Masks`."""
        draw = torch.rand(2, count, 1, 1, device=device)
        low, high = (math.log(share * min(height, width)) for share in self._smoothing)
        sigma = torch.exp(low + draw[0] * (high - low))
        share = self._partner[0] + draw[1] * (self._partner[1] - self._partner[0])
        noise = torch.randn(count, height, width, device=device)
        # Autocast would round the noise.
        with torch.autocast(device.type, enabled=False):
            smooth = _kernel(height, sigma) @ noise @ _kernel(width, sigma)
        mean, std = smooth.mean(dim=(1, 2), keepdim=True), smooth.std(dim=(1, 2), correction=0, keepdim=True)
        threshold = mean + math.sqrt(2) * torch.erfinv(2 * share - 1) * std
        return (smooth > threshold)[:, None]


def _kernel(size: int, sigma: Tensor) -> Tensor:
    """What smooths a line of `size` pixels, ``[B, size, size]``, up to a factor; `sigma` is ``[B, 1, 1]``."""
    place = torch.arange(size, device=sigma.device)
    return torch.exp(-(((place[:, None] - place) / sigma) ** 2) / 2)
