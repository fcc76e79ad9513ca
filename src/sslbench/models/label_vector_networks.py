"""Label vectors: a codebook with one vector a class, and networks that point at them."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from sslbench.models._checks import check_at_least, check_images

_CANDIDATES = 20_000  # draws before a codebook is given up


def codebook(num_classes: int, length: int, max_cosine: float, seed: int) -> Tensor:
    """Vectors of positive numbers and length 1, no two with a cosine similarity above `max_cosine`.

    Candidates are squares of exponential draws, whose long tail makes positive vectors point apart; one is
    taken when it keeps its distance from those taken before. A pure function of its arguments on every
    machine (numpy's legacy generator, whose stream is promised never to change).

    Args:
        num_classes: vectors.
        length: numbers in each.
        max_cosine: above 0, at most 1.
        seed: 0 to 2**32 - 1.

    Returns:
        float32 ``[num_classes, length]``.

    Raises:
        ValueError: so many vectors were not found.
    """
    draw = np.random.RandomState(seed)
    taken = np.empty((0, length))
    for _ in range(_CANDIDATES):
        candidate = draw.standard_exponential(length) ** 2
        candidate /= np.linalg.norm(candidate)
        if (taken @ candidate <= max_cosine - 1e-6).all():  # a hair less: float32 rounds
            taken = np.vstack([taken, candidate])
            if len(taken) == num_classes:
                return torch.from_numpy(taken.astype(np.float32))
    raise ValueError(
        f"found {len(taken)} vectors of {length} positive numbers with pairwise cosine at most {max_cosine}, "
        f"and {num_classes} classes need one each: raise code_length or max_cosine"
    )


@final
class ClassNetworks(nn.Module):
    """One small network a class, side by side: images ``[B, C, H, W]`` to ``[B, K, L]``.

    Each is conv 16 (3x3, padding 1), conv 8 (padding 2), conv 1 (padding 2), with max pooling by 2 and ReLU
    after each, and Xavier-uniform weights: 28x28 images give 5x5 maps, so L = 25. The layers of all classes
    run as one grouped convolution.

    Args:
        in_channels: image channels.
        image_size: height and width in pixels, at least 4.
        num_classes: networks.
    """

    def __init__(self, in_channels: int, image_size: tuple[int, int], num_classes: int) -> None:
        super().__init__()
        check_images(in_channels, image_size, num_classes, smallest=4)
        k = num_classes
        self.body = nn.Sequential(
            nn.Conv2d(in_channels, 16 * k, 3, padding=1),
            nn.MaxPool2d(2),
            nn.ReLU(inplace=True),
            nn.Conv2d(16 * k, 8 * k, 3, padding=2, groups=k),
            nn.MaxPool2d(2),
            nn.ReLU(inplace=True),
            nn.Conv2d(8 * k, k, 3, padding=2, groups=k),
            nn.MaxPool2d(2),
            nn.ReLU(inplace=True),
        )
        for layer in self.body:
            if isinstance(layer, nn.Conv2d):
                _xavier_by_class(layer, k)
        height, width = (_map_side(side) for side in image_size)
        self.code_length = height * width

    def forward(self, x: Tensor) -> Tensor:
        """The map of each class's network, flat."""
        codes: Tensor = self.body(x).flatten(2)
        return codes


def _map_side(side: int) -> int:
    for padding in (1, 2, 2):
        side = (side + 2 * padding - 2) // 2
    return side


def _xavier_by_class(layer: nn.Conv2d, num_classes: int) -> None:
    """Xavier-uniform as if each class's network were a layer of its own."""
    for weight in layer.weight.chunk(num_classes):
        nn.init.xavier_uniform_(weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)


@final
class LabelVectorNetworks(nn.Module):
    """Several tries at networks that point at label vectors; the one with the lowest loss predicts.

    A try is either one network for all classes, whose output is compared with every vector, or one a class,
    each compared with its own vector. The logits are the cosine similarities over a temperature.

    Args:
        new_network: makes the network or networks of a try: ``[B, L]`` or ``[B, K, L]``.
        restarts: tries, trained side by side.
        vectors: the codebook, ``[K, L]``.
        temperature: of the logits, above 0.
    """

    vectors: Tensor
    loss: Tensor

    def __init__(
        self, new_network: Callable[[], nn.Module], restarts: int, vectors: Tensor, temperature: float
    ) -> None:
        super().__init__()
        check_at_least("restarts", restarts, 1)
        self.tries = nn.ModuleList([new_network() for _ in range(restarts)])
        self.temperature = temperature
        self.register_buffer("vectors", vectors.clone())
        self.register_buffer("loss", torch.zeros(restarts, len(vectors)))

    def codes(self, x: Tensor) -> Tensor:
        """What each class's network says of each image, at length 1: ``[R, B, K, L]``."""
        codes = torch.stack([network(x) for network in self.tries])
        if codes.dim() == 3:
            codes = codes[:, :, None].expand(-1, -1, len(self.vectors), -1)
        return normalize(codes.float(), dim=-1)

    def similarities(self, x: Tensor) -> Tensor:
        """Cosine of each class's network and its own vector: ``[R, B, K]``."""
        return (self.codes(x) * self.vectors).sum(dim=-1)

    def follow(self, loss: Tensor, one_hot: Tensor, decay: float) -> None:
        """Move the running mean of each try's training loss on each class.

        Args:
            loss: of each image in each try, ``[R, B]``.
            one_hot: the images' classes, ``[B, K]``.
            decay: of the running mean.
        """
        count = one_hot.sum(dim=0)
        mean = (loss.detach()[:, :, None] * one_hot).sum(dim=1) / count.clamp(min=1)
        self.loss.lerp_(mean, (1 - decay) * (count > 0))

    def chosen(self, values: Tensor) -> Tensor:
        """Of values ``[R, B, K, ...]``, those of the try with the lowest running loss, ``[B, K, ...]``.

        With one network a class, each class has its own choice.
        """
        overall = self.loss.mean(dim=1, keepdim=True).expand_as(self.loss)
        best = (self.loss if isinstance(self.tries[0], ClassNetworks) else overall).argmin(dim=0)
        classes = torch.arange(len(best), device=best.device)
        return values.movedim(1, -1)[best, classes].movedim(-1, 0)

    def forward(self, x: Tensor) -> Tensor:
        """Images ``[B, C, H, W]`` to logits ``[B, K]``."""
        return self.chosen(self.similarities(x)) / self.temperature
