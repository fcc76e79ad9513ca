"""A small convolutional network for digits, garments and other small images."""

from __future__ import annotations

from typing import final

from torch import Tensor, nn

from sslbench.models._checks import check_at_least, check_dropout, check_images


@final
class CNN(nn.Module):
    """Four 3x3 convolutions with batch normalisation; about 230,000 parameters at width 32.

    This project's own network, sized so that a step is tens of milliseconds on two CPU cores; it is from no
    paper. Its layers have width/2, 2*width, 4*width and 4*width channels: the first, at full resolution, is
    where the time goes, so it is narrow. For the same reason the pooling comes before the normalisation,
    which then has a quarter of the values to handle.

    Args:
        in_channels: image channels.
        image_size: height and width in pixels, at least 8.
        num_classes: size of the label set.
        width: scales the channels of every layer.
        dropout: probability of dropping a feature before the classifier.

    Raises:
        ValueError: a hyperparameter is out of its range, or the images are too small for three poolings.
    """

    def __init__(
        self,
        in_channels: int,
        image_size: tuple[int, int],
        num_classes: int,
        width: int = 32,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_images(in_channels, image_size, num_classes, smallest=8)
        check_at_least("width", width, 2)
        check_dropout(dropout)
        self.body = nn.Sequential(
            *_layer(in_channels, width // 2, pool=True),
            *_layer(width // 2, 2 * width, pool=True),
            *_layer(2 * width, 4 * width, pool=True),
            *_layer(4 * width, 4 * width, pool=False),
        )
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(4 * width, num_classes)

    def features(self, x: Tensor) -> Tensor:
        """Images ``[B, C, H, W]`` to pooled features ``[B, 4 * width]``."""
        # Not AdaptiveAvgPool2d: its backward pass is not deterministic on CUDA.
        features: Tensor = self.dropout(self.body(x).mean((2, 3)))
        return features

    def forward(self, x: Tensor) -> Tensor:
        """Images ``[B, C, H, W]`` to logits ``[B, K]``."""
        logits: Tensor = self.classifier(self.features(x))
        return logits


def _layer(channels_in: int, channels_out: int, *, pool: bool) -> list[nn.Module]:
    conv = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
    pooling = [nn.MaxPool2d(2)] if pool else []
    return [conv, *pooling, nn.BatchNorm2d(channels_out), nn.ReLU(inplace=True)]
