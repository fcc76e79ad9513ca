from __future__ import annotations

from dataclasses import replace
from typing import cast

import pytest
import torch
from scipy.special import log_softmax, softmax
from torch import nn

from helpers.predicted import SPEC, logits, predicted
from sslbench.algorithms.fixmatch import FixMatch
from sslbench.algorithms.weak_to_strong.average_margin import AveragePseudoMargin
from sslbench.algorithms.weak_to_strong.labelled_correction import LabelledCorrection
from sslbench.algorithms.weak_to_strong.targets import HardTargets
from sslbench.algorithms.weak_to_strong.thresholds import FixedThreshold
from sslbench.core import Batch, ModelFactory, Progress, StrongView
from sslbench.errors import UserError
from sslbench.losses.classification import cross_entropy


def correction(threshold: float) -> LabelledCorrection:
    return LabelledCorrection(FixedThreshold(threshold), HardTargets(aligned=False))


def test_it_is_the_unlabelled_term_on_labelled_images() -> None:
    weak, strong = logits(9, 1), logits(9, 2)
    p = softmax(weak.numpy(), axis=1)
    counts = p.max(axis=1) >= 0.6
    assert 0 < counts.sum() < 9
    expected = -(log_softmax(strong.numpy(), axis=1)[range(9), p.argmax(axis=1)] * counts).sum() / 9
    of_others = torch.ones(4, dtype=torch.float64)
    predictions = predicted(logits(4, 3), labelled=weak, labelled_strong=strong)
    found = [
        correction(0.6)(replace(predictions, targets=targets), logits(4, 4), of_others).item()
        for targets in (torch.zeros(9, dtype=torch.int64), torch.arange(9) % 5)  # labels do not matter
    ]
    assert found == pytest.approx([expected, expected])


def test_no_gradient_reaches_the_weak_view() -> None:
    weak, strong = logits(9, 1).requires_grad_(), logits(9, 2).requires_grad_()
    predictions = predicted(logits(4, 3), labelled=weak, labelled_strong=strong)
    correction(0.6)(predictions, logits(4, 4), torch.ones(4)).backward()
    assert weak.grad is None
    assert strong.grad is not None


class Network(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(12, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 5))
        self.double()


class Factory:
    spec = SPEC

    def __call__(self, num_outputs: int | None = None) -> nn.Module:
        torch.manual_seed(0)
        return Network()


@pytest.mark.parametrize("joint_batch", [False, True])
def test_with_labelled_images_as_unlabelled_ones_the_loss_is_supervised(joint_batch: bool) -> None:
    """Exactly, and with the gradient; the unlabelled term and its correction are not zero."""
    algorithm = FixMatch(
        cast("StrongView", "strong"),
        FixedThreshold(0.3),
        HardTargets(aligned=False),
        weight=0.5,
        ramp_up=0.0,
        ema=0.9,
        joint_batch=joint_batch,
        extra=correction(0.3),
        labelled_strong=True,
    )
    models = algorithm.build(cast("ModelFactory", Factory()))
    assert algorithm.trained == ("student",)
    torch.manual_seed(1)
    weak, strong = torch.randn(2, 6, 1, 3, 4).double()
    targets = torch.tensor([0, 1, 2, 3, 4, 0])
    batch = Batch((weak, strong), targets, (weak, strong), torch.arange(6), torch.arange(6))
    output = algorithm.step(models, batch, Progress(torch.tensor(1.0), 8))
    assert output.terms["pseudo_label"].item() == output.terms["labelled_correction"].item() > 0
    assert output.losses["main"].item() == pytest.approx(output.terms["supervised"].item(), rel=1e-12)
    parameters = list(models["student"].parameters())
    found = torch.autograd.grad(output.losses["main"], parameters, retain_graph=True)
    expected = torch.autograd.grad(output.terms["supervised"], parameters)
    torch.testing.assert_close(found, expected)
    if not joint_batch:
        student = models["student"]
        both = (cross_entropy(student(weak), targets) + cross_entropy(student(strong), targets)) / 2
        torch.testing.assert_close(output.terms["supervised"], both)


def test_the_loss_may_be_below_zero() -> None:
    """A model that is wrong about the strong views of labelled images alone."""
    labelled, wrong = 9 * torch.eye(5).double(), 9 * torch.eye(5).double().roll(1, dims=1)
    predictions = predicted(labelled, strong=labelled, labelled=labelled, labelled_strong=wrong)
    term = correction(0.9)(predictions, predictions.probabilities, torch.ones(5))
    assert LabelledCorrection.weight * term.item() < -1


def test_labelled_images_without_strong_views_are_refused() -> None:
    with pytest.raises(UserError, match=r"^algorithm\.labelled_strong must be true"):
        correction(0.9)(predicted(logits(2, 1)), logits(2, 1), torch.ones(2))


def test_parts_with_a_state_are_refused() -> None:
    margins = AveragePseudoMargin(FixedThreshold(0.9), 0.997, 0.0, 0.0)
    with pytest.raises(ValueError, match=r"^weighting keeps a state"):
        LabelledCorrection(margins, HardTargets(aligned=False))
