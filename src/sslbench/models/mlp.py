"""Multilayer perceptron."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from torch import Tensor, nn

from sslbench.models._checks import check_at_least, check_dropout, check_images


@final
class MLP(nn.Module):
    """Fully connected network on flattened images.

    The default is the 1200-1200 network with batch normalisation that VAT uses for semi-supervised MNIST
    (Miyato et al. 2016, arXiv:1507.00677). Deviations: the authors' code also batch-normalises the logits,
    and this network leaves them as they are.

    Args:
        in_channels: image channels.
        image_size: height and width in pixels.
        num_classes: size of the label set.
        hidden: width of each hidden layer; empty makes it softmax regression.
        batch_norm: normalise before each ReLU.
        dropout: probability of dropping a hidden unit, after each ReLU.

    Raises:
        ValueError: a hyperparameter is out of its range.
    """

    def __init__(
        self,
        in_channels: int,
        image_size: tuple[int, int],
        num_classes: int,
        hidden: Sequence[int] = (1200, 1200),
        batch_norm: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_images(in_channels, image_size, num_classes)
        check_dropout(dropout)
        layers: list[nn.Module] = [nn.Flatten()]
        size = in_channels * image_size[0] * image_size[1]
        for i, width in enumerate(hidden):
            check_at_least(f"hidden[{i}]", width, 1)
            layers.append(nn.Linear(size, width, bias=not batch_norm))
            if batch_norm:
                layers.append(nn.BatchNorm1d(width))
            layers += [nn.ReLU(inplace=True), nn.Dropout(dropout)]
            size = width
        self.body = nn.Sequential(*layers)
        self.classifier = nn.Linear(size, num_classes)

    def features(self, x: Tensor) -> Tensor:
        """Images ``[B, C, H, W]`` to the last hidden layer ``[B, D]``."""
        features: Tensor = self.body(x)
        return features

    def forward(self, x: Tensor) -> Tensor:
        """Images ``[B, C, H, W]`` to logits ``[B, K]``."""
        logits: Tensor = self.classifier(self.features(x))
        return logits
