"""The form of all models in this package: a body that makes features, and a linear classifier."""

from typing import final

from torch import Tensor, nn


@final
class Classifier(nn.Module):
    """``classifier(body(x))``.

    Args:
        body: images ``[B, C, H, W]`` to features ``[B, D]``.
        classifier: the last linear layer, with ``in_features`` D and one output for each class.
    """

    def __init__(self, body: nn.Module, classifier: nn.Module) -> None:
        super().__init__()
        self.body, self.classifier = body, classifier

    def features(self, x: Tensor) -> Tensor:
        """Images ``[B, C, H, W]`` to what the classifier reads, ``[B, D]``."""
        features: Tensor = self.body(x)
        return features

    def forward(self, x: Tensor) -> Tensor:
        """Images ``[B, C, H, W]`` to logits ``[B, K]``."""
        logits: Tensor = self.classifier(self.features(x))
        return logits


@final
class GlobalAveragePooling(nn.Module):
    """Maps ``[B, D, H, W]`` to their means ``[B, D]``.

    In place of ``AdaptiveAvgPool2d``, whose backward pass is not deterministic on CUDA.
    """

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))
