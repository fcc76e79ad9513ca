"""A small convolutional network for digits, garments and other small images."""

from torch import nn

from sslbench.checks import check_decay, check_image_size
from sslbench.models.classifier import Classifier, GlobalAveragePooling


def CNN(
    in_channels: int,
    image_size: tuple[int, int],
    num_classes: int,
    width: int = 32,
    dropout: float = 0.0,
) -> Classifier:
    """Four 3x3 convolutions with batch normalisation; about 230,000 parameters at width 32.

    This project's own network, from no paper; a step takes tens of milliseconds on two CPU cores. Its layers
    have width/2, 2*width, 4*width and 4*width channels. The first, at full resolution, takes most of the
    time, so it is narrow. For the same reason pooling comes before normalisation, which then has a quarter of
    the values to handle. Images of at least 8x8.

    Args:
        width: scales the channels of every layer.
        dropout: probability of dropping a feature before the classifier.
    """
    check_image_size(image_size, smallest=8)
    if width < 2:
        raise ValueError(f"width={width} must be at least 2")
    check_decay(dropout=dropout)
    body = nn.Sequential(
        *_layer(in_channels, width // 2, pool=True),
        *_layer(width // 2, 2 * width, pool=True),
        *_layer(2 * width, 4 * width, pool=True),
        *_layer(4 * width, 4 * width, pool=False),
        GlobalAveragePooling(),
        nn.Dropout(dropout),
    )
    return Classifier(body, nn.Linear(4 * width, num_classes))


def _layer(channels_in: int, channels_out: int, *, pool: bool) -> list[nn.Module]:
    conv = nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)
    pooling = [nn.MaxPool2d(2)] if pool else []
    return [conv, *pooling, nn.BatchNorm2d(channels_out), nn.ReLU(inplace=True)]
