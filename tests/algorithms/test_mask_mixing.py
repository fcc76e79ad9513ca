from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from torch import Tensor, nn

from sslbench.algorithms.mask_mixing import MaskMixing
from sslbench.core import Batch, Progress, StepOutput
from sslbench.losses import mse

COUNT, CLASSES = 5, 4
START = Progress(torch.tensor(0.0), 8)


class Network(nn.Module):
    """A linear network that remembers its inputs and modes."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(12, CLASSES).double()
        self.inputs: list[Tensor] = []
        self.modes: list[bool] = []

    def forward(self, images: Tensor) -> Tensor:
        self.inputs.append(images)
        self.modes.append(self.training)
        logits: Tensor = self.layer(images.flatten(1))
        return logits


def fixed(count: int, height: int, width: int, device: torch.device) -> Tensor:
    """Masks of different areas: the first rows of each image, 0 to 3 of 3, are its own."""
    assert (count, height, width) == (COUNT, 3, 4)
    rows = torch.tensor([0, 1, 2, 3, 1], device=device)
    return (torch.arange(3) < rows[:, None])[:, None, :, None].expand(-1, 1, -1, 4)


def two_networks() -> dict[str, Network]:
    torch.manual_seed(0)
    return {"student": Network(), "teacher": Network()}


def example() -> Batch:
    torch.manual_seed(1)
    labelled, targets = torch.randn(3, 1, 3, 4).double(), torch.tensor([0, 3, 1])
    images = 4 * torch.randn(COUNT, 1, 3, 4).double()
    return Batch((labelled,), targets, (images,), torch.arange(3), torch.arange(COUNT))


def step(models: dict[str, Network], batch: Batch, **changes: Any) -> StepOutput:
    arguments: dict[str, Any] = {"threshold": 0.6, "ema": 0.9, "weight": 30.0, **changes}
    return MaskMixing(arguments.pop("distance", mse), fixed, **arguments).step(models, batch, START)


def reference(models: dict[str, Network], batch: Batch) -> tuple[np.ndarray, float, list[float]]:
    """The collages, the consistency term and the confidence of each pair, image by image."""
    images = batch.unlabelled[0].numpy()
    with torch.no_grad():
        predicted = softmax(models["teacher"](batch.unlabelled[0]).numpy(), axis=1)
    collages, squares, confidences = images.copy(), 0.0, []
    for own, rows in enumerate([0, 1, 2, 3, 1]):
        partner = (own - 1) % COUNT
        collages[own, :, rows:] = images[partner, :, rows:]
        target = rows / 3 * predicted[own] + (1 - rows / 3) * predicted[partner]
        with torch.no_grad():
            logits = models["student"](torch.from_numpy(collages[own : own + 1])).numpy()
        squares += np.square(softmax(logits, axis=1)[0] - target).mean()
        confidences.append(rows / 3 * predicted[own].max() + (1 - rows / 3) * predicted[partner].max())
    return collages, squares / COUNT, confidences


def test_loss_is_the_formula_of_the_authors_code() -> None:
    models, batch = two_networks(), example()
    collages, consistency, confidences = reference(models, batch)
    share = float(np.mean(np.array(confidences) >= 0.6))
    assert 0 < share < 1
    output = step(models, batch)
    with torch.no_grad():
        labelled = log_softmax(models["student"](batch.labelled[0]).numpy(), axis=1)
    supervised = -labelled[np.arange(3), batch.targets.numpy()].mean()
    assert output.terms["consistency"].item() == pytest.approx(consistency, rel=1e-12)
    assert output.terms["supervised"].item() == pytest.approx(supervised, rel=1e-12)
    # One factor for the batch: pairs below the threshold count like the others.
    assert output.monitors["confident_share"].item() == pytest.approx(share)
    expected = supervised + 30 * share * consistency
    assert output.losses["main"].item() == pytest.approx(expected, rel=1e-6)
    np.testing.assert_array_equal(models["student"].inputs[-2].numpy(), collages)


@pytest.mark.parametrize(("threshold", "share"), [(0.0, 1.0), (1.0, 0.0)])
def test_confidence_scales_the_weight(threshold: float, share: float) -> None:
    output = step(two_networks(), example(), threshold=threshold)
    assert output.monitors["consistency_weight"].item() == 30 * share
    assert output.terms["consistency"].item() > 0


def test_the_teacher_predicts_unmixed_images_in_evaluation_mode_without_gradient() -> None:
    seen: list[Tensor] = []

    def spy(logits: Tensor, target: Tensor) -> Tensor:
        seen.append(target)
        return mse(logits, target)

    models, batch = two_networks(), example()
    models["teacher"].layer.train(mode=False)  # a layer that stays in its mode
    step(models, batch, distance=spy)
    assert models["teacher"].modes == [False]
    assert torch.equal(models["teacher"].inputs[0], batch.unlabelled[0])
    assert models["teacher"].training
    assert not models["teacher"].layer.training
    assert not seen[0].requires_grad
    torch.testing.assert_close(seen[0].sum(dim=1), torch.ones(COUNT).double())


def test_the_teacher_is_an_average_of_the_student() -> None:
    algorithm = MaskMixing(mse, fixed, threshold=0.6, ema=0.97, weight=1.0)
    assert algorithm.averages["teacher"].of == "student"
    assert algorithm.averages["teacher"].decay == 0.97
    assert algorithm.predictors == ("teacher", "student")
