"""Labels that a method gives to training images, kept where a checkpoint finds them."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn


@final
class AssignedTargets(nn.Module):
    """A target distribution for each image of the training set.

    Args:
        num_train: images of the training set.
        num_classes: size of the label set.
    """

    probabilities: Tensor
    given: Tensor

    def __init__(self, num_train: int, num_classes: int) -> None:
        super().__init__()
        self.register_buffer("probabilities", torch.zeros(num_train, num_classes))
        self.register_buffer("given", torch.zeros(num_train, dtype=torch.bool))

    def assign(self, index: Tensor, probabilities: Tensor) -> None:
        """Replace all targets by `probabilities` ``[n, K]`` for the images at `index` ``[n]``."""
        self.probabilities.zero_()
        self.given.zero_()
        self.probabilities[index] = probabilities.to(self.probabilities.dtype)
        self.given[index] = True

    def accuracy(self, classes: Tensor) -> float:
        """Share of the assigned targets whose most probable class is the true one, of `classes` ``[N]``."""
        right = self.probabilities.argmax(dim=1) == classes
        return float(right[self.given].double().mean())

    def forward(self, index: Tensor) -> Tensor:
        """The targets of the images at `index` ``[B]``: ``[B, K]``."""
        return self.probabilities[index]
