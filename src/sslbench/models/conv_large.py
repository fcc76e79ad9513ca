"""The 13-layer convolutional network of the consistency-regularisation papers."""

from __future__ import annotations

from typing import final

from torch import Tensor, nn

from sslbench.models._checks import check_dropout, check_images


@final
class ConvLarge(nn.Module):
    """The "13-layer" or "ConvLarge" network; 3,121,802 parameters for 3 channels and 10 classes.

    Laine & Aila 2017 (arXiv:1610.02242), VAT (Miyato et al. 2018, arXiv:1704.03976) and Mean Teacher
    (Tarvainen & Valpola 2017, arXiv:1703.01780): three 3x3 layers of 128, three of 256, each group followed
    by 2x2 max pooling and dropout, then 3x3 512 without padding, 1x1 256, 1x1 128, global average pooling and
    a dense layer; leaky ReLU of slope 0.1 throughout.

    Deviations: batch normalisation as in VAT, where Laine & Aila and Mean Teacher normalise weights and use
    mean-only batch normalisation; torch's initialisation and batch-norm constants; no Gaussian noise on the
    input, because noise on images belongs to the augmentation.

    Args:
        in_channels: image channels.
        image_size: height and width in pixels, at least 12.
        num_classes: size of the label set.
        dropout: probability of dropping an activation after each max pooling.

    Raises:
        ValueError: dropout is out of its range, or the images are too small for the layer without padding.
    """

    def __init__(
        self,
        in_channels: int,
        image_size: tuple[int, int],
        num_classes: int,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        check_images(in_channels, image_size, num_classes, smallest=12)
        check_dropout(dropout)
        self.body = nn.Sequential(
            *_layer(in_channels, 128),
            *_layer(128, 128),
            *_layer(128, 128),
            nn.MaxPool2d(2),
            nn.Dropout(dropout),
            *_layer(128, 256),
            *_layer(256, 256),
            *_layer(256, 256),
            nn.MaxPool2d(2),
            nn.Dropout(dropout),
            *_layer(256, 512, padding=0),
            *_layer(512, 256, kernel=1, padding=0),
            *_layer(256, 128, kernel=1, padding=0),
        )
        self.classifier = nn.Linear(128, num_classes)

    def features(self, x: Tensor) -> Tensor:
        """Images ``[B, C, H, W]`` to pooled features ``[B, 128]``."""
        # Not AdaptiveAvgPool2d: its backward pass is not deterministic on CUDA.
        features: Tensor = self.body(x).mean((2, 3))
        return features

    def forward(self, x: Tensor) -> Tensor:
        """Images ``[B, C, H, W]`` to logits ``[B, K]``."""
        logits: Tensor = self.classifier(self.features(x))
        return logits


def _layer(channels_in: int, channels_out: int, *, kernel: int = 3, padding: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(channels_in, channels_out, kernel, padding=padding, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.LeakyReLU(0.1, inplace=True),
    ]
