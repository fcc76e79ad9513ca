"""A convolutional network without batch normalisation, for use as a GAN's discriminator."""

from __future__ import annotations

from typing import final

from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from sslbench.models._checks import check_at_least, check_dropout, check_images
from sslbench.models.noise import GaussianNoise


@final
class StridedCNN(nn.Module):
    """Four strided convolutions with weight normalisation, leaky ReLU and dropout.

    In the manner of Improved-GAN's discriminators (Salimans et al. 2016, arXiv:1606.03498, and its code):
    weight in place of batch normalisation, since statistics shared between real and generated images tell
    them apart, noise on the input, and leaky slopes of 0.2.

    Args:
        in_channels: image channels.
        image_size: height and width in pixels, at least 8.
        num_classes: size of the label set.
        width: channels of the first layer; the others have 2, 4 and 4 times as many.
        noise: standard deviation of the noise on the input, in its units.
        dropout: probability of dropping a channel of the first layers, and a feature before the classifier.

    Raises:
        ValueError: a hyperparameter is out of its range, or the images are too small.
    """

    def __init__(
        self,
        in_channels: int,
        image_size: tuple[int, int],
        num_classes: int,
        width: int = 32,
        noise: float = 0.3,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        check_images(in_channels, image_size, num_classes, smallest=8)
        check_at_least("width", width, 1)
        check_dropout(dropout)
        self.body = nn.Sequential(
            GaussianNoise(noise),
            *_layer(in_channels, width, 5),
            nn.Dropout2d(dropout),
            *_layer(width, 2 * width, 3),
            *_layer(2 * width, 4 * width, 3),
            nn.Dropout2d(dropout),
            *_layer(4 * width, 4 * width, 3, stride=1),
        )
        self.dropout = nn.Dropout(dropout)
        self.classifier = weight_norm(nn.Linear(4 * width, num_classes))

    def features(self, x: Tensor) -> Tensor:
        """Images ``[B, C, H, W]`` to pooled features ``[B, 4 * width]``."""
        features: Tensor = self.dropout(self.body(x).mean((2, 3)))
        return features

    def forward(self, x: Tensor) -> Tensor:
        """Images ``[B, C, H, W]`` to logits ``[B, K]``."""
        logits: Tensor = self.classifier(self.features(x))
        return logits


def _layer(channels_in: int, channels_out: int, kernel: int, stride: int = 2) -> list[nn.Module]:
    conv = nn.Conv2d(channels_in, channels_out, kernel, stride=stride, padding=kernel // 2)
    return [weight_norm(conv), nn.LeakyReLU(0.2, inplace=True)]
