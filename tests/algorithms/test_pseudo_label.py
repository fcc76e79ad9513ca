from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from torch import Tensor, nn

from sslbench.algorithms.pseudo_label import PseudoLabel
from sslbench.core import Batch, Progress, StepOutput

THRESHOLD = 0.6


def step(model: nn.Module, batch: Batch, **changes: float) -> StepOutput:
    """One step in the first eighth of a run."""
    arguments = {"threshold": THRESHOLD, "soft_below": False, "weight": 3.0, "ramp_up": 0.5, **changes}
    algorithm = PseudoLabel(**arguments)  # type: ignore[arg-type]
    return algorithm.step({"student": model}, batch, Progress(torch.tensor(1.0), 8))


def example() -> tuple[nn.Module, Batch]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 4)).double()
    views = torch.randn(2, 9, 1, 3, 4).double()
    labelled, targets = torch.randn(6, 1, 3, 4).double(), torch.randint(0, 4, (6,))
    return model, Batch((labelled,), targets, (views[0], views[1]), torch.arange(6), torch.arange(9))


def logits_of(model: nn.Module, images: Tensor) -> np.ndarray:
    with torch.no_grad():
        logits: np.ndarray = model(images).numpy()
    return logits


def given_logits(*rows: list[float]) -> Batch:
    """A batch for `nn.Flatten()`, which takes the unlabelled images themselves as logits."""
    images = torch.tensor(rows, dtype=torch.float64, requires_grad=True)
    labelled = torch.zeros(2, images.shape[1], dtype=torch.float64)
    return Batch((labelled,), torch.tensor([0, 1]), (images,), torch.arange(2), torch.arange(len(rows)))


def test_loss_is_the_formula() -> None:
    model, batch = example()
    output = step(model, batch)
    logits = logits_of(model, batch.unlabelled[0])
    pseudo, above = 0.0, 0
    for row in logits:
        if softmax(row).max() >= THRESHOLD:
            pseudo -= log_softmax(row)[row.argmax()]
            above += 1
    assert 0 < above < 9
    labelled = log_softmax(logits_of(model, batch.labelled[0]), axis=1)
    supervised = -np.mean([row[k] for row, k in zip(labelled, batch.targets.tolist(), strict=True)])
    ramp = math.exp(-5 * (1 - 0.25) ** 2)
    assert output.terms["supervised"].item() == pytest.approx(supervised, rel=1e-12)
    assert output.terms["pseudo"].item() == pytest.approx(pseudo / 9, rel=1e-12)
    assert output.losses["main"].item() == pytest.approx(supervised + 3 * ramp * pseudo / 9, rel=1e-6)
    assert output.monitors["pseudo_weight"].item() == pytest.approx(3 * ramp, rel=1e-6)
    assert output.monitors["confident_share"].item() == pytest.approx(above / 9)
    assert output.pseudo_labels is not None
    assert output.pseudo_labels.probabilities.numpy().tolist() == np.eye(4)[logits.argmax(axis=1)].tolist()
    confident = (softmax(logits, axis=1).max(axis=1) >= THRESHOLD).astype(float)
    assert output.pseudo_labels.weights.tolist() == confident.tolist()


def test_soft_targets_below_the_threshold() -> None:
    model, batch = example()
    output = step(model, batch, soft_below=True)
    students = log_softmax(logits_of(model, batch.unlabelled[0]), axis=1)
    targets = softmax(logits_of(model, batch.unlabelled[1]), axis=1)
    confident = targets.max(axis=1) >= THRESHOLD
    assert 0 < confident.sum() < 9
    targets[confident] = np.eye(4)[targets[confident].argmax(axis=1)]
    assert output.terms["pseudo"].item() == pytest.approx(-(targets * students).sum() / 9, rel=1e-12)
    assert output.monitors["confident_share"].item() == pytest.approx(confident.mean())
    assert output.pseudo_labels is not None
    np.testing.assert_allclose(output.pseudo_labels.probabilities.numpy(), targets)
    assert output.pseudo_labels.weights.tolist() == [1] * 9


def test_images_below_the_threshold_have_no_gradient_and_weigh_down_the_rest() -> None:
    batch = given_logits([3.0, 0.0, 0.0], [0.4, 0.2, 0.0], [0.0, 0.0, 0.1], [0.0, 0.5, 0.0])
    images = batch.unlabelled[0]
    output = step(nn.Flatten(), batch)
    assert output.terms["pseudo"].item() == pytest.approx(-log_softmax([3.0, 0.0, 0.0])[0] / 4)
    (gradient,) = torch.autograd.grad(output.terms["pseudo"], images)
    assert torch.equal(gradient[1:], torch.zeros(3, 3, dtype=torch.float64))
    # Of cross-entropy with a constant label: prediction minus label, over all images of the batch.
    expected = (images[0].softmax(0) - torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)) / 4
    torch.testing.assert_close(gradient[0], expected)


def test_no_confident_image_gives_no_loss() -> None:
    output = step(nn.Flatten(), given_logits([0.4, 0.2, 0.0], [0.0, 0.5, 0.0]))
    assert output.terms["pseudo"].item() == 0
    assert output.monitors["confident_share"].item() == 0


def test_a_probability_at_the_threshold_reaches_it() -> None:
    output = step(nn.Flatten(), given_logits([0.0, 0.0]), threshold=0.5)
    assert output.terms["pseudo"].item() == pytest.approx(math.log(2))


def test_soft_targets_have_a_gradient_that_goes_to_the_first_view_only() -> None:
    one = torch.tensor([[0.4, 0.2, 0.0]], dtype=torch.float64, requires_grad=True)
    other = torch.tensor([[0.0, 0.3, 0.1]], dtype=torch.float64, requires_grad=True)
    labelled = torch.zeros(1, 3, dtype=torch.float64)
    batch = Batch((labelled,), torch.tensor([0]), (one, other), torch.arange(1), torch.arange(1))
    output = step(nn.Flatten(), batch, soft_below=True)
    gradients = torch.autograd.grad(output.terms["pseudo"], (one, other), allow_unused=True)
    torch.testing.assert_close(gradients[0], (one.softmax(1) - other.softmax(1)).detach())
    assert gradients[0].abs().min() > 0.01
    assert gradients[1] is None


def test_views_follow_soft_below() -> None:
    for soft_below, views in ((False, ("weak",)), (True, ("weak", "weak"))):
        assert PseudoLabel(0.95, soft_below, 1.0, 0.4).views.unlabelled == views
