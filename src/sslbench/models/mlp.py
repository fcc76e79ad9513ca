"""Multilayer perceptron."""

from collections.abc import Sequence

from torch import nn

from sslbench.checks import check_counts, check_decay
from sslbench.models.classifier import Classifier


def MLP(
    in_channels: int,
    image_size: tuple[int, int],
    num_classes: int,
    hidden: Sequence[int] = (1200, 1200),
    batch_norm: bool = True,
    dropout: float = 0.0,
) -> Classifier:
    """Fully connected network on flattened images.

    The default is the 1200-1200 network with batch normalisation that VAT uses for semi-supervised MNIST
    (Miyato et al. 2016, arXiv:1507.00677). Deviations: the authors' code also batch-normalises the logits,
    and this network leaves them as they are.

    Args:
        hidden: width of each hidden layer; empty makes it softmax regression.
        batch_norm: normalise before each ReLU.
        dropout: probability of dropping a hidden unit, after each ReLU.
    """
    check_decay(dropout=dropout)
    layers: list[nn.Module] = [nn.Flatten()]
    size = in_channels * image_size[0] * image_size[1]
    for i, width in enumerate(hidden):
        check_counts(**{f"hidden[{i}]": width})
        layers.append(nn.Linear(size, width, bias=not batch_norm))
        if batch_norm:
            layers.append(nn.BatchNorm1d(width))
        layers += [nn.ReLU(inplace=True), nn.Dropout(dropout)]
        size = width
    return Classifier(nn.Sequential(*layers), nn.Linear(size, num_classes))
