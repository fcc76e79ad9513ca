from __future__ import annotations

import math

import pytest
import torch

from sslbench.algorithms.ramp_up import linear_ramp_up, sigmoid_ramp_up


@pytest.mark.parametrize(
    ("fraction", "length", "expected"),
    [
        (0.0, 0.4, math.exp(-5)),
        (0.2, 0.4, math.exp(-1.25)),
        (0.4, 0.4, 1.0),
        (0.9, 0.4, 1.0),
        (0.3, 0.0, 1.0),
        # 5,000 steps of a ramp over 200,000, as the SVHN source has it: 0.8 % of the weight at the end
        (1.0, 40.0, math.exp(-5 * (1 - 1 / 40) ** 2)),
    ],
)
def test_values(fraction: float, length: float, expected: float) -> None:
    assert sigmoid_ramp_up(torch.tensor(fraction), length).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("fraction", "length", "expected"),
    [(0.0, 0.4, 0.0), (0.1, 0.4, 0.25), (0.4, 0.4, 1.0), (0.9, 0.4, 1.0), (0.3, 0.0, 1.0), (0.5, 2.0, 0.25)],
)
def test_values_of_the_linear_one(fraction: float, length: float, expected: float) -> None:
    assert linear_ramp_up(torch.tensor(fraction), length).item() == pytest.approx(expected, rel=1e-6)
