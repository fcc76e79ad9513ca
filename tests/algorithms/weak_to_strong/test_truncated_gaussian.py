from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from helpers.predicted import SPEC, assert_state_survives, logits, predicted
from sslbench.algorithms.weak_to_strong.truncated_gaussian import TruncatedGaussian


def prepared(num_sigmas: float = 2, decay: float = 0.6) -> TruncatedGaussian:
    part = TruncatedGaussian(num_sigmas, decay)
    part.prepare(SPEC, nn.Identity())
    return part.double()


@pytest.mark.parametrize("num_sigmas", [1, 2, 3])
def test_weights_follow_the_paper_over_several_steps(num_sigmas: float) -> None:
    part = prepared(num_sigmas)
    mean, variance = 0.2, 1.0
    for step in range(6):
        aligned = logits(7, 50 + step).softmax(dim=1)
        c = aligned.numpy().max(axis=1)
        mean = 0.6 * mean + 0.4 * c.mean()
        variance = 0.6 * variance + 0.4 * c.var(ddof=1)
        sigma = math.sqrt(variance) / num_sigmas
        expected = [math.exp(-((x - mean) ** 2) / (2 * sigma**2)) if x < mean else 1.0 for x in c]
        np.testing.assert_allclose(
            part(predicted(logits(7, step), aligned=aligned)).numpy(), expected, rtol=1e-6
        )
        assert part.mean.item() == pytest.approx(mean, rel=1e-6)
        assert part.variance.item() == pytest.approx(variance, rel=1e-6)


def test_values_of_a_table() -> None:
    """With mean 0.8 and standard deviation 0.2, confidence in units of it below the mean; num_sigmas is 2."""
    table = {0.9: 1.0, 0.8: 1.0, 0.7: 0.60653, 0.6: 0.13534, 0.4: 0.000335}
    part = prepared(decay=1 - 1e-12)
    part.mean.fill_(0.8)
    part.variance.fill_(0.04)
    rows = [[c, *[(1 - c) / 4] * 4] for c in table]
    aligned = torch.tensor(rows, dtype=torch.float64)
    found = part(predicted(aligned.log(), aligned=aligned))
    assert found.tolist() == pytest.approx(list(table.values()), abs=1e-5)


def test_a_batch_of_one_image_has_no_variance() -> None:
    part = prepared(decay=0.5)
    assert part(predicted(logits(1, 0))).isfinite().all()
    assert part.variance.item() == 0.5


def test_state_survives() -> None:
    part = prepared()
    part(predicted(logits(6, 0)))
    assert_state_survives(part, prepared())


def test_values_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^num_sigmas="):
        TruncatedGaussian(0, 0.9)
    with pytest.raises(ValueError, match=r"^decay="):
        TruncatedGaussian(2, 1.0)
