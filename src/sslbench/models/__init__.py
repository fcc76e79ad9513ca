"""Networks: images ``[B, C, H, W]`` to logits ``[B, K]``.

Every constructor begins with ``in_channels``, ``image_size`` and ``num_classes``, which come from the data.
``features(x)`` gives what the last linear layer, ``classifier``, reads: ``[B, classifier.in_features]``.
"""

from __future__ import annotations

from sslbench.models.batch_norm import frozen_batch_stats
from sslbench.models.cnn import CNN
from sslbench.models.conv_large import ConvLarge
from sslbench.models.generator import ConvGenerator, MLPGenerator
from sslbench.models.mlp import MLP
from sslbench.models.noisy_mlp import NoisyMLP
from sslbench.models.wrn import WideResNet

__all__ = [
    "CNN",
    "MLP",
    "ConvGenerator",
    "ConvLarge",
    "MLPGenerator",
    "NoisyMLP",
    "WideResNet",
    "frozen_batch_stats",
]
