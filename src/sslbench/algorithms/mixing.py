"""Mixtures of labelled images and of their labels: options of supervised training."""

from typing import Protocol, final

import torch
from torch import Tensor

from sslbench.algorithms.masks import inside
from sslbench.checks import check_positive
from sslbench.losses.mixup import mix, mixup_coefficients


class Mixing(Protocol):
    """Mixes each image of a batch with another of the batch, and their targets alike."""

    def __call__(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """From images ``[B, C, H, W]`` and target probabilities ``[B, K]`` to mixtures of the same shapes."""


@final
class Mixup:
    """Zhang et al. 2018, arXiv:1710.09412, eq. 1.

    Deviation: each pair has a mixup coefficient of its own, where the authors' code draws one for the batch.

    Args:
        alpha: coefficients are drawn from Beta(alpha, alpha), above 0.
    """

    def __init__(self, alpha: float) -> None:
        check_positive(alpha=alpha)
        self._alpha = alpha

    def __call__(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """See `Mixing`."""
        partner = torch.randperm(len(images), device=images.device)
        coefficient = mixup_coefficients(len(images), self._alpha, images.device)
        return mix(images, images[partner], coefficient), mix(targets, targets[partner], coefficient)


@final
class CutMix:
    """Yun et al. 2019, arXiv:1905.04899, section 3.1: a box of the partner is pasted into each image.

    With lambda from Beta(alpha, alpha), the sides of the box are ``sqrt(1 - lambda)`` of the image's. Its
    centre is uniform in the image, and it is cut off at the borders. Targets are mixed by the share of the
    pixels.

    Deviations: each pair has a box of its own, where the authors' code (github.com/clovaai/CutMix-PyTorch)
    draws one for the batch; edges do not lie on pixels; and every batch is mixed, where the code mixes half
    of them for CIFAR.

    Args:
        alpha: of the Beta distribution, above 0; 1 in the paper.
    """

    def __init__(self, alpha: float) -> None:
        check_positive(alpha=alpha)
        self._alpha = alpha

    def __call__(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """See `Mixing`."""
        count, _, height, width = images.shape
        partner = torch.randperm(count, device=images.device)
        side = (1 - mixup_coefficients(count, self._alpha, images.device)).sqrt()
        row, column = torch.rand(2, count, device=images.device)
        rows = (height * (row - side / 2), height * (row + side / 2))
        columns = (width * (column - side / 2), width * (column + side / 2))
        pasted = inside(rows, columns, height, width)
        share = 1 - pasted.to(targets.dtype).mean(dim=(1, 2, 3))
        return torch.where(pasted, images[partner], images), mix(targets, targets[partner], share)
