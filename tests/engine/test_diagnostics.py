from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sslbench.data.splits import make_split
from sslbench.data.views import DeviceImages, ImageTransform
from sslbench.engine.diagnostics import DiagnosticData
from sslbench.engine.evaluation import BATCH_SIZE, EvaluationSet

CPU = torch.device("cpu")
COUNT, CLASSES = 1300, 4  # more than two batches
TARGETS = np.random.default_rng(0).permutation(np.arange(COUNT) % CLASSES)
TEST_TARGETS = TARGETS[::-1].copy()
SPLIT = make_split(TARGETS, CLASSES, 16, 600, 0)
TEST_INDEX = np.arange(COUNT)


def numbered_images() -> DeviceImages:
    """Each holds its own position in its first two pixels; random for training."""
    pixels = np.zeros((COUNT, 3, 3, 1), dtype=np.uint8)
    pixels[:, 0, 0, 0], pixels[:, 0, 1, 0] = np.divmod(np.arange(COUNT), 256)
    return DeviceImages(pixels, ImageTransform([0.0], [1.0], ["flip", "noise"], flip=True, noise=0.5), CPU)


class Reader(nn.Module):
    """Gives back the position of each image, twice."""

    def __init__(self) -> None:
        super().__init__()
        self.passes: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        assert not self.training
        self.passes.append(len(images))
        digits = (images[:, 0, 0, :2] * 255).round()
        return (256 * digits[:, 0] + digits[:, 1])[:, None].expand(-1, 2)


def evaluation_set(index: NDArray[np.int64], targets: NDArray[np.int64]) -> EvaluationSet:
    picked = torch.from_numpy(targets[index])
    return EvaluationSet(numbered_images(), torch.from_numpy(index), picked, CLASSES)


@pytest.fixture
def parts() -> DiagnosticData:
    valid = evaluation_set(SPLIT.valid, TARGETS)
    test = evaluation_set(TEST_INDEX, TEST_TARGETS)
    return DiagnosticData(numbered_images(), torch.from_numpy(TARGETS), SPLIT, valid, test)


def test_positions_and_targets(parts: DiagnosticData) -> None:
    assert torch.equal(parts.training.unlabelled, torch.from_numpy(SPLIT.unlabelled))
    assert torch.equal(parts.targets, torch.from_numpy(TARGETS))


@pytest.mark.parametrize("count", [1, BATCH_SIZE, COUNT])
def test_predictions_are_of_the_clean_images_in_their_order(parts: DiagnosticData, count: int) -> None:
    index = torch.from_numpy(np.random.default_rng(1).permutation(COUNT)[:count])
    model = Reader()
    predicted = parts.training.predict(model, index)
    assert torch.equal(predicted, index[:, None].float().expand(-1, 2))
    assert model.training, "the model leaves in the mode it came in"
    assert max(model.passes) <= BATCH_SIZE


@pytest.mark.parametrize(
    ("part", "index", "targets"),
    [
        ("labelled", SPLIT.labelled, TARGETS),
        ("unlabelled", SPLIT.unlabelled, TARGETS),
        ("val", SPLIT.valid, TARGETS),
        ("test", TEST_INDEX, TEST_TARGETS),
    ],
)
def test_mean_over_a_part(
    parts: DiagnosticData, part: str, index: NDArray[np.int64], targets: NDArray[np.int64]
) -> None:
    def score(outputs: Tensor, classes: Tensor) -> Tensor:
        return outputs[:, 1] * (classes + 1)

    def is_even(outputs: Tensor, classes: Tensor) -> Tensor:
        return (outputs[:, 0] + classes) % 2 == 0

    model = Reader()
    expected = np.mean(index * (targets[index] + 1.0))
    assert parts.mean(part, model, score) == pytest.approx(expected, rel=1e-12)
    assert model.training
    assert parts.mean(part, model, is_even) == np.mean((index + targets[index]) % 2 == 0)
