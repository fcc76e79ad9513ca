"""A threshold relative to the confidence on labelled images."""

from typing import final

from torch import Tensor, nn

from sslbench.algorithms.weak_to_strong.protocol import Predictions
from sslbench.checks import check_probability


@final
class RelativeThreshold(nn.Module):
    """AdaMatch (Berthelot et al. 2022, arXiv:2106.04732), section 3.3.

    1 where the greatest aligned probability reaches `ratio` times the mean of the greatest probabilities at
    the weak views of the batch's labelled images. Interpolated logits are read after the interpolation, as in
    the authors' code (google-research/adamatch).

    Args:
        ratio: in [0, 1].
    """

    def __init__(self, ratio: float) -> None:
        super().__init__()
        check_probability(ratio=ratio)
        self._ratio = ratio

    def forward(self, predictions: Predictions) -> Tensor:
        labelled = predictions.labelled.detach().softmax(dim=1).amax(dim=1).mean()
        aligned = predictions.aligned
        return (aligned.amax(dim=1) >= self._ratio * labelled).to(aligned.dtype)
