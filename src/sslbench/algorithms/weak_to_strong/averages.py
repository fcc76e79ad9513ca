"""Moving averages of what a step shows, kept in buffers."""

from torch import Tensor


def move_average(average: Tensor, value: Tensor, decay: float) -> None:
    """``average = decay * average + (1 - decay) * value``, in place.

    Both have one shape; the result has the type of `average`. `decay` is in [0, 1).
    """
    average.mul_(decay).add_(value, alpha=1 - decay)
