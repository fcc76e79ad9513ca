"""Label vectors: a codebook with one vector a class, and networks that point at them."""

from collections.abc import Callable
from typing import final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from sslbench.checks import check_counts, check_image_size

_CANDIDATES = 20_000  # draws after which the search for a codebook ends


def codebook(num_classes: int, length: int, max_cosine: float, seed: int) -> Tensor:
    """Vectors of positive numbers and length 1, no two with a cosine similarity above `max_cosine`.

    Candidates are squares of exponential draws, whose long tail makes positive vectors point apart; a
    candidate is accepted if its similarities to all accepted before are small enough. The same arguments give
    the same vectors on every machine: the stream of numpy's legacy generator never changes.

    Returns:
        float32 ``[num_classes, length]``.

    Raises:
        ValueError: fewer than `num_classes` vectors were found.
    """
    draw = np.random.RandomState(seed)
    vectors = np.empty((0, length))
    for _ in range(_CANDIDATES):
        candidate = draw.standard_exponential(length) ** 2
        candidate /= np.linalg.norm(candidate)
        if (vectors @ candidate <= max_cosine - 1e-6).all():  # less by more than float32 rounds
            vectors = np.vstack([vectors, candidate])
            if len(vectors) == num_classes:
                return torch.from_numpy(vectors.astype(np.float32))
    raise ValueError(
        f"found {len(vectors)} vectors of {length} positive numbers with pairwise cosine at most "
        f"{max_cosine}, and {num_classes} classes need one each: raise code_length or max_cosine"
    )


@final
class ClassNetworks(nn.Module):
    """One small network a class, side by side: images ``[B, C, H, W]`` to ``[B, K, L]``.

    Each is conv 16 (3x3, padding 1), conv 8 (padding 2), conv 1 (padding 2), with max pooling by 2 and ReLU
    after each, and Xavier-uniform weights: 28x28 images give 5x5 maps, so L = 25. The layers of all classes
    run as one grouped convolution. Images of at least 4x4.
    """

    def __init__(self, in_channels: int, image_size: tuple[int, int], num_classes: int) -> None:
        super().__init__()
        check_image_size(image_size, smallest=4)
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
    """Networks that point at label vectors, in several restarts; the one with the lowest loss predicts.

    A restart has either one network for all classes, whose output is compared with every vector, or one for
    each class, which is compared with its own vector. The logits ``[B, K]`` are the cosine similarities over
    a temperature.

    Args:
        new_network: makes the network or networks of a restart: ``[B, L]`` or ``[B, K, L]``.
        restarts: number of them, trained side by side.
        vectors: the codebook, ``[K, L]``.
        temperature: of the logits, above 0.
    """

    vectors: Tensor
    loss: Tensor

    def __init__(
        self, new_network: Callable[[], nn.Module], restarts: int, vectors: Tensor, temperature: float
    ) -> None:
        super().__init__()
        check_counts(restarts=restarts)
        # The restarts, under the name that saved weights have.
        self.tries = nn.ModuleList([new_network() for _ in range(restarts)])
        self.temperature = temperature
        self.register_buffer("vectors", vectors.clone())
        self.register_buffer("loss", torch.zeros(restarts, len(vectors)))

    def codes(self, x: Tensor) -> Tensor:
        """Output of each class's network for each image, at length 1: ``[R, B, K, L]``."""
        codes = torch.stack([network(x) for network in self.tries])
        if codes.dim() == 3:
            codes = codes[:, :, None].expand(-1, -1, len(self.vectors), -1)
        return normalize(codes.float(), dim=-1)

    def similarities(self, x: Tensor) -> Tensor:
        """Cosine of the output of each class's network and that class's vector: ``[R, B, K]``."""
        return (self.codes(x) * self.vectors).sum(dim=-1)

    def track_loss(self, loss: Tensor, one_hot: Tensor, decay: float) -> None:
        """Update the running mean of each restart's training loss on each class.

        `loss` is that of each image in each restart, ``[R, B]``; `one_hot` has their classes, ``[B, K]``.
        """
        count = one_hot.sum(dim=0)  # images of each class
        mean = (loss.detach()[:, :, None] * one_hot).sum(dim=1) / count.clamp(min=1)
        self.loss.lerp_(mean, (1 - decay) * (count > 0))

    def select_best(self, values: Tensor) -> Tensor:
        """The values of the restart with the lowest running loss: ``[R, B, K, ...]`` to ``[B, K, ...]``.

        With one network for each class, a restart is selected for each class.
        """
        overall = self.loss.mean(dim=1, keepdim=True).expand_as(self.loss)
        best = (self.loss if isinstance(self.tries[0], ClassNetworks) else overall).argmin(dim=0)
        classes = torch.arange(len(best), device=best.device)
        return values.movedim(1, -1)[best, classes].movedim(-1, 0)

    def forward(self, x: Tensor) -> Tensor:
        return self.select_best(self.similarities(x)) / self.temperature
