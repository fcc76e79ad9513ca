"""Pseudo-labels of training images, in buffers, so that a checkpoint holds them."""

from typing import final

import torch
from torch import Tensor, nn


@final
class PseudoLabels(nn.Module):
    """A target distribution for each image of the training set that has a pseudo-label."""

    probabilities: Tensor
    has_pseudo_label: Tensor

    def __init__(self, num_train: int, num_classes: int) -> None:
        super().__init__()
        self.register_buffer("probabilities", torch.zeros(num_train, num_classes))
        self.register_buffer("has_pseudo_label", torch.zeros(num_train, dtype=torch.bool))

    def assign(self, index: Tensor, probabilities: Tensor) -> None:
        """Forget all pseudo-labels; those at `index` ``[n]`` become `probabilities` ``[n, K]``."""
        self.probabilities.zero_()
        self.has_pseudo_label.zero_()
        self.probabilities[index] = probabilities.to(self.probabilities.dtype)
        self.has_pseudo_label[index] = True

    def diagnose(self, classes: Tensor) -> dict[str, float]:
        """How many there are, and the share whose most probable class is that in `classes`, int64 ``[N]``."""
        right = self.probabilities.argmax(dim=1) == classes
        return {
            "diagnostic/pseudo_labels": float(self.has_pseudo_label.sum()),
            "diagnostic/pseudo_labels_acc": float(right[self.has_pseudo_label].double().mean()),
        }

    def forward(self, index: Tensor) -> Tensor:
        """The targets of the images at `index` ``[B]``: ``[B, K]``; zeros where there is no pseudo-label."""
        return self.probabilities[index]
