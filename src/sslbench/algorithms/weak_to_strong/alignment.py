"""Distribution alignment: predictions are rescaled until their average has the distribution that it should.

With q a prediction, ``p`` the distribution of past predictions and ``p*`` the one they should have, the
aligned prediction is ``q p* / p``, normalised over the classes (ReMixMatch, arXiv:1911.09785, section 3.1).
"""

from typing import final

import torch
from torch import Tensor, nn

from sslbench.algorithms.weak_to_strong.averages import move_average
from sslbench.checks import check_counts, check_decay
from sslbench.core import DataSpec

#: Added to both distributions, so that a class that was never predicted divides by no zero.
EPSILON = 1e-6


def _aligned(probabilities: Tensor, wanted: Tensor, predicted: Tensor) -> Tensor:
    """From ``[U, K]`` to ``[U, K]``; the distributions are ``[K]``."""
    scaled = probabilities * (wanted + EPSILON) / (predicted + EPSILON)
    return scaled / scaled.sum(dim=1, keepdim=True)


@final
class UniformAlignment(nn.Module):
    """Towards equally frequent classes (uniform alignment of SoftMatch, arXiv:2301.10921, section 3).

    ``p`` is a moving average of the batches' mean predictions, the present one included. SoftMatch uses the
    result for the weight alone: give it targets with ``aligned: false``.

    Deviation: the average begins at 1/K in each class; the released code (microsoft/Semi-supervised-learning)
    begins with the first batch.

    Args:
        decay: of the average, in [0, 1).
    """

    predicted: Tensor

    def __init__(self, decay: float) -> None:
        super().__init__()
        check_decay(decay=decay)
        self._decay = decay

    def prepare(self, spec: DataSpec, student: nn.Module) -> None:
        """See `Stateful.prepare`."""
        self.register_buffer("predicted", torch.full((spec.num_classes,), 1 / spec.num_classes))

    def forward(self, probabilities: Tensor, labelled: Tensor) -> Tensor:
        move_average(self.predicted, probabilities.mean(dim=0), self._decay)
        return _aligned(
            probabilities, torch.full_like(self.predicted, 1 / len(self.predicted)), self.predicted
        )

    def adjust(self, logits: Tensor) -> Tensor:
        """The logits as they are."""
        return logits


@final
class LabelledAlignment(nn.Module):
    """Towards the predictions for labelled images (AdaMatch, arXiv:2106.04732, section 3.3).

    As in the authors' code (google-research/adamatch), ``p*`` is a moving average of the mean predictions for
    labelled images at their weak views, and ``p`` the plain mean of those for the last batches of unlabelled
    ones, both with the present batch, both 1/K in each class at the start.

    Args:
        decay: of the average over labelled images, in [0, 1).
        num_batches: of the mean over unlabelled images, at least 1.
    """

    wanted: Tensor
    recent: Tensor

    def __init__(self, decay: float, num_batches: int) -> None:
        super().__init__()
        check_decay(decay=decay)
        check_counts(num_batches=num_batches)
        self._decay, self._num_batches = decay, num_batches

    def prepare(self, spec: DataSpec, student: nn.Module) -> None:
        """See `Stateful.prepare`."""
        even = torch.full((spec.num_classes,), 1 / spec.num_classes)
        self.register_buffer("wanted", even)
        self.register_buffer("recent", even.repeat(self._num_batches, 1))

    def forward(self, probabilities: Tensor, labelled: Tensor) -> Tensor:
        move_average(self.wanted, labelled.mean(dim=0), self._decay)
        present = probabilities.mean(dim=0, keepdim=True).to(self.recent.dtype)
        self.recent.copy_(torch.cat([self.recent[1:], present]))
        return _aligned(probabilities, self.wanted, self.recent.mean(dim=0))

    def adjust(self, logits: Tensor) -> Tensor:
        """The logits as they are."""
        return logits


@final
class RecentMean(nn.Module):
    """``normalise(q / mean q)``, where the mean is over the last batches, this one too.

    As in the code of ShrinkMatch (github.com/LiheYoung/ShrinkMatch, CIFAR) and, with a target distribution
    that is uniform, the distribution alignment of ReMixMatch (arXiv:1911.09785, section 3.1).

    Args:
        batches: how many, at least 1.
    """

    means: Tensor
    next_place: Tensor

    def __init__(self, batches: int) -> None:
        super().__init__()
        check_counts(batches=batches)
        self._batches = batches

    def prepare(self, spec: DataSpec, student: nn.Module) -> None:
        """See `Stateful.prepare`."""
        self.register_buffer("means", torch.zeros(self._batches, spec.num_classes))
        self.register_buffer("next_place", torch.zeros(1, dtype=torch.int64))

    def forward(self, probabilities: Tensor, labelled: Tensor) -> Tensor:
        mean = probabilities.mean(dim=0, keepdim=True)
        self.means.index_copy_(0, self.next_place, mean.to(self.means.dtype))
        self.next_place.copy_((self.next_place + 1) % self._batches)
        # Places that are not filled yet hold zeros; the factor that they make is lost in the normalisation.
        ratio = probabilities / self.means.mean(dim=0).to(probabilities.dtype).clamp(min=1e-12)
        return ratio / ratio.sum(dim=1, keepdim=True)

    def adjust(self, logits: Tensor) -> Tensor:
        """The logits as they are."""
        return logits
