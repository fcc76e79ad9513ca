from __future__ import annotations

import math

import torch
from torch import nn

from sslbench.algorithms.pi_model import PiModel
from sslbench.core import Batch, Progress
from sslbench.losses import mse


def test_loss_is_the_papers_formula() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 4)).double()
    one, other = torch.randn(2, 9, 1, 3, 4).double()
    labelled, targets = torch.randn(6, 1, 3, 4).double(), torch.randint(0, 4, (6,))
    batch = Batch((labelled,), targets, (one, other), torch.arange(6), torch.arange(9))
    output = PiModel(mse, weight=20.0, ramp_up=0.5).step(
        {"student": model}, batch, Progress(torch.tensor(1.0), 4)
    )

    with torch.no_grad():
        supervised = -model(labelled).softmax(1)[torch.arange(6), targets].log().mean()
        squares = (model(one).softmax(1) - model(other).softmax(1)) ** 2
        # Laine & Aila, algorithm 1: the sum over classes and samples, divided by both counts
        consistency = squares.sum() / (9 * 4)
    torch.testing.assert_close(output.terms["supervised"], supervised)
    torch.testing.assert_close(output.terms["consistency"], consistency)
    torch.testing.assert_close(output.losses["main"], supervised + 20 * math.exp(-5 * 0.25) * consistency)
