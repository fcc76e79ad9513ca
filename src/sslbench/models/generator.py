"""The generator of a semi-supervised GAN."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from sslbench.core import ImageSpec
from sslbench.models._checks import check_at_least


@final
class Generator(nn.Module):
    """Noise to images: one dense layer, then two transposed convolutions that double the size each.

    Every layer but the last has batch normalisation and ReLU, as in DCGAN (Radford et al. 2016,
    arXiv:1511.06434). The last ends in a sigmoid between the inputs of a black and of a white pixel, so that
    generated images lie in the range of the real ones.

    Args:
        spec: the shape of the images; sides that are no multiple of four are cut off a larger image.
        black: the network input for black pixels, one number for each channel.
        white: likewise for white pixels.
        noise_size: numbers in the noise.
        width: channels of the middle layer; the first has twice as many.

    Raises:
        ValueError: a hyperparameter is out of its range, or the images have no bounds.
    """

    low: Tensor
    high: Tensor

    def __init__(
        self,
        spec: ImageSpec,
        black: Sequence[float],
        white: Sequence[float],
        noise_size: int = 100,
        width: int = 32,
    ) -> None:
        super().__init__()
        check_at_least("noise_size", noise_size, 1)
        check_at_least("width", width, 1)
        if not black:
            raise ValueError("whitened images have no bounds to generate within: use preprocess=none")
        self.noise_size, self._spec = noise_size, spec
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
        self.register_buffer("low", torch.tensor(black).view(1, -1, 1, 1))
        self.register_buffer("high", torch.tensor(white).view(1, -1, 1, 1))

    def forward(self, noise: Tensor) -> Tensor:
        """Noise ``[B, noise_size]`` to network inputs ``[B, C, H, W]``."""
        pixels = self.body(noise)[:, :, : self._spec.height, : self._spec.width].sigmoid()
        return torch.lerp(self.low, self.high, pixels)

    def pixels(self, images: Tensor) -> Tensor:
        """Network inputs ``[B, C, H, W]`` as uint8 pixels ``[B, C, H, W]``."""
        return (255 * (images - self.low) / (self.high - self.low)).round().clamp(0, 255).to(torch.uint8)
