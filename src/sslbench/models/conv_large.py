"""The 13-layer convolutional network of the consistency-regularisation papers."""

from torch import nn

from sslbench.checks import check_decay, check_image_size
from sslbench.models.classifier import Classifier, GlobalAveragePooling


def ConvLarge(
    in_channels: int,
    image_size: tuple[int, int],
    num_classes: int,
    dropout: float = 0.5,
) -> Classifier:
    """The "13-layer" or "ConvLarge" network; 3,121,802 parameters for 3 channels and 10 classes.

    Laine & Aila 2017 (arXiv:1610.02242), VAT (Miyato et al. 2018, arXiv:1704.03976) and Mean Teacher
    (Tarvainen & Valpola 2017, arXiv:1703.01780): three 3x3 layers of 128, three of 256, each group followed
    by 2x2 max pooling and dropout, then 3x3 512 without padding, 1x1 256, 1x1 128, global average pooling and
    a dense layer; leaky ReLU of slope 0.1 throughout. Images of at least 12x12, because of the layer without
    padding.

    Deviations: batch normalisation as in VAT, where Laine & Aila and Mean Teacher normalise weights and use
    mean-only batch normalisation; torch's initialisation and batch-norm constants; no Gaussian noise on the
    input, because noise on images belongs to the augmentation.

    Args:
        dropout: probability of dropping an activation after each max pooling.
    """
    check_image_size(image_size, smallest=12)
    check_decay(dropout=dropout)
    body = nn.Sequential(
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
        GlobalAveragePooling(),
    )
    return Classifier(body, nn.Linear(128, num_classes))


def _layer(channels_in: int, channels_out: int, *, kernel: int = 3, padding: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(channels_in, channels_out, kernel, padding=padding, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.LeakyReLU(0.1, inplace=True),
    ]
