"""Models: images ``[B, C, H, W]`` to logits ``[B, K]``.

Each function makes a `Classifier`: ``features(x)`` gives what its last linear layer, ``classifier``, reads.
The first three arguments of each come from the data:

- in_channels: image channels.
- image_size: height and width in pixels; models with pooling need a smallest size.
- num_classes: size of the label set, which is the number of logits.

All of them raise `ValueError` if a hyperparameter is out of its range or the images are too small.
"""

from sslbench.models.batch_norm import frozen_batch_stats
from sslbench.models.classifier import Classifier
from sslbench.models.cnn import CNN
from sslbench.models.conv_large import ConvLarge
from sslbench.models.generator import ConvGenerator, MLPGenerator
from sslbench.models.mlp import MLP
from sslbench.models.noise import SameNoise
from sslbench.models.noisy_mlp import NoisyMLP
from sslbench.models.wrn import WideResNet

__all__ = [
    "CNN",
    "MLP",
    "Classifier",
    "ConvGenerator",
    "ConvLarge",
    "MLPGenerator",
    "NoisyMLP",
    "SameNoise",
    "WideResNet",
    "frozen_batch_stats",
]
