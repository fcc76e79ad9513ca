"""Learning-rate schedules: the factor on the optimizer's rate, a pure function of the step.

Each takes ``step`` (steps finished so far) and ``total`` (steps of the run) and returns the factor.
"""

import math
from collections.abc import Callable

#: ``schedule(step, total) -> factor``.
Schedule = Callable[[int, int], float]


def constant(step: int, total: int) -> float:
    """Always 1."""
    return 1.0


def exponential(step: int, total: int, factor: float, every: int) -> float:
    """``factor ** (step // every)``; ``experiment=seeds/vat_mnist`` takes 0.9 every 240 steps."""
    return factor ** (step // every)


def step_down(step: int, total: int, factor: float, at: float) -> float:
    """1, then `factor` once the share `at` of the run is done."""
    return factor if step / total >= at else 1.0


def linear(step: int, total: int, start: float) -> float:
    """1 until the share `start` of the run is done, then straight down to 0 at its end."""
    done = step / total
    return 1.0 if done <= start else (1 - done) / (1 - start)


def cosine(step: int, total: int, cycles: float) -> float:
    """``cos(2 pi cycles step / total)``; 7/32 of a cycle is FixMatch's (arXiv:2001.07685, section 2.3)."""
    return math.cos(2 * math.pi * cycles * step / total)
