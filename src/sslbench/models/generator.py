"""Generators of a semi-supervised GAN: noise to images.

Arguments that all have:

- spec: the shape of the images.
- black, white: the network inputs for black and for white pixels, one number for each channel.
- noise_size: numbers in the noise of an image.

All of them raise `ValueError` if a hyperparameter is out of its range, or the images have no such bounds.
"""

from collections.abc import Sequence
from typing import Protocol, final

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from sslbench.checks import check_counts
from sslbench.core import DataSpec


@final
class PixelRange(nn.Module):
    """Maps any number to a network input between that of a black pixel and that of a white one."""

    black: Tensor
    white: Tensor

    def __init__(self, black: Sequence[float], white: Sequence[float]) -> None:
        super().__init__()
        if not black:
            raise ValueError("whitened images have no bounds to generate within: use preprocess=none")
        self.register_buffer("black", torch.tensor(black).view(1, -1, 1, 1))
        self.register_buffer("white", torch.tensor(white).view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W]`` to the same shape, through a sigmoid."""
        # In the bounds' type: bfloat16 has too few numbers near 1 for pixels, so such a pass ends here.
        return torch.lerp(self.black, self.white, x.to(self.black.dtype).sigmoid())

    def pixels(self, images: Tensor) -> Tensor:
        """Network inputs ``[B, C, H, W]`` as uint8 pixels ``[B, C, H, W]``."""
        intensity = (images - self.black) / (self.white - self.black)
        return (255 * intensity).round().clamp(0, 255).to(torch.uint8)


class Generator(Protocol):
    """A network that makes images from noise.

    Attributes:
        noise_size: numbers in the noise of an image.
        range: the last layer, which keeps the images between black and white.
    """

    noise_size: int
    range: PixelRange

    def __call__(self, noise: Tensor) -> Tensor:
        """Noise ``[B, noise_size]`` to network inputs ``[B, C, H, W]``."""


@final
class MLPGenerator(nn.Module):
    """Improved-GAN's generator for MNIST (Salimans et al. 2016, arXiv:1606.03498, and its code).

    Hidden layers with batch normalisation and softplus, and a weight-normalised last one.

    Args:
        hidden: width of each hidden layer.
    """

    def __init__(
        self,
        spec: DataSpec,
        black: Sequence[float],
        white: Sequence[float],
        noise_size: int = 100,
        hidden: Sequence[int] = (500, 500),
    ) -> None:
        super().__init__()
        check_counts(noise_size=noise_size, **{f"hidden[{i}]": width for i, width in enumerate(hidden)})
        self.noise_size, self.range = noise_size, PixelRange(black, white)
        layers: list[nn.Module] = []
        size = noise_size
        for width in hidden:
            layers += [nn.Linear(size, width, bias=False), nn.BatchNorm1d(width), nn.Softplus()]
            size = width
        shape = (spec.channels, spec.height, spec.width)
        layers += [weight_norm(nn.Linear(size, spec.channels * spec.height * spec.width))]
        self.body = nn.Sequential(*layers, nn.Unflatten(1, shape))

    def forward(self, noise: Tensor) -> Tensor:
        images: Tensor = self.range(self.body(noise))
        return images


@final
class ConvGenerator(nn.Module):
    """One dense layer, then two transposed convolutions that double the size each.

    Every layer but the last has batch normalisation and ReLU, as in DCGAN (Radford et al. 2016,
    arXiv:1511.06434). If a side is no multiple of four, a larger image is made and cropped.

    Args:
        width: channels of the middle layer; the first has twice as many.
    """

    def __init__(
        self,
        spec: DataSpec,
        black: Sequence[float],
        white: Sequence[float],
        noise_size: int = 100,
        width: int = 32,
    ) -> None:
        super().__init__()
        check_counts(noise_size=noise_size, width=width)
        self.noise_size, self.range, self._spec = noise_size, PixelRange(black, white), spec
        height, columns = -(-spec.height // 4), -(-spec.width // 4)
        self.body = nn.Sequential(
            nn.Linear(noise_size, 2 * width * height * columns, bias=False),
            nn.BatchNorm1d(2 * width * height * columns),
            nn.ReLU(inplace=True),
            nn.Unflatten(1, (2 * width, height, columns)),
            nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(width, spec.channels, 4, stride=2, padding=1),
        )

    def forward(self, noise: Tensor) -> Tensor:
        images: Tensor = self.range(self.body(noise)[:, :, : self._spec.height, : self._spec.width])
        return images
