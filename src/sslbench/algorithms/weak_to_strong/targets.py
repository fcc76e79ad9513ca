"""What the prediction at the strong view should be, from the prediction at the weak one."""

from typing import final

from torch import Tensor, nn

from sslbench.algorithms.weak_to_strong.protocol import Predictions
from sslbench.checks import check_positive
from sslbench.losses import one_hot
from sslbench.losses.mixup import sharpen


@final
class HardTargets(nn.Module):
    """The most probable class.

    Args:
        aligned: whether of the aligned prediction.
    """

    def __init__(self, aligned: bool) -> None:
        super().__init__()
        self._aligned = aligned

    def forward(self, predictions: Predictions) -> Tensor:
        probabilities = predictions.aligned if self._aligned else predictions.probabilities
        return one_hot(probabilities.argmax(dim=1), probabilities.shape[1], probabilities.dtype)


@final
class SoftTargets(nn.Module):
    """The whole predicted distribution, sharpened.

    Args:
        aligned: whether the aligned prediction.
        temperature: of the sharpening, above 0; 1 leaves the prediction as it is.
    """

    def __init__(self, aligned: bool, temperature: float) -> None:
        super().__init__()
        check_positive(temperature=temperature)
        self._aligned, self._temperature = aligned, temperature

    def forward(self, predictions: Predictions) -> Tensor:
        probabilities = predictions.aligned if self._aligned else predictions.probabilities
        return sharpen(probabilities, self._temperature)
