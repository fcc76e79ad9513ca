from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_calibration_error

from sslbench.data.views import DeviceImages, ImageTransform
from sslbench.engine.evaluation import EvaluationSet, evaluate

CPU = torch.device("cpu")
COUNT, CLASSES = 200, 4


class Table(nn.Module):
    """A network whose logits are looked up: each image holds its own position in its first pixel."""

    def __init__(self, logits: NDArray[np.float64]) -> None:
        super().__init__()
        self.register_buffer("logits", torch.from_numpy(logits).float())
        self.passes: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        assert not self.training
        self.passes.append(len(images))
        logits: Tensor = self.get_buffer("logits")[(images[:, 0, 0, 0] * 255).round().long()]
        return logits


def numbered_images() -> DeviceImages:
    """Kept with a padding, and random for training, as a validation set is."""
    pixels = np.zeros((COUNT, 3, 3, 1), dtype=np.uint8)
    pixels[:, 0, 0, 0] = np.arange(COUNT)
    transform = ImageTransform([0.0], [1.0], ["crop", "flip", "noise"], crop=1, flip=True, noise=0.5)
    return DeviceImages(pixels, transform, CPU)


def data_of(index: NDArray[np.int64], targets: NDArray[np.int64]) -> EvaluationSet:
    return EvaluationSet(numbered_images(), torch.from_numpy(index), torch.from_numpy(targets), CLASSES)


@dataclass
class Case:
    logits: NDArray[np.float64]
    index: NDArray[np.int64]
    targets: NDArray[np.int64]

    @property
    def data(self) -> EvaluationSet:
        return data_of(self.index, self.targets)


@pytest.fixture
def case() -> Case:
    """Logits of every confidence, on a part of the images in an order of its own."""
    random = np.random.default_rng(0)
    logits = random.normal(size=(COUNT, CLASSES)) * random.uniform(0.1, 4, size=(COUNT, 1))
    index = random.permutation(COUNT)[:137]
    likely = logits[index].argmax(axis=1)
    targets = np.where(random.random(137) < 0.6, likely, random.integers(0, CLASSES, 137))
    return Case(logits.astype(np.float32).astype(np.float64), index, targets)


def probabilities(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    exponents: NDArray[np.float64] = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: NDArray[np.float64] = exponents / exponents.sum(axis=1, keepdims=True)
    return shares


def calibration_error(shares: NDArray[np.float64], targets: NDArray[np.int64]) -> float:
    """Guo et al. 2017, equation 3, with 15 bins."""
    confidence, right = shares.max(axis=1), shares.argmax(axis=1) == targets
    error = 0.0
    for i in range(15):
        inside = (confidence >= i / 15) & ((confidence < (i + 1) / 15) | (i == 14))
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return float(error)


def test_numbers_are_those_of_numpy(case: Case) -> None:
    logits = case.logits[case.index]
    shares = probabilities(logits)
    result = evaluate(Table(case.logits), case.data)
    assert result.acc == (logits.argmax(axis=1) == case.targets).mean()
    assert 0.5 < result.acc < 0.8
    assert result.loss == pytest.approx(-np.log(shares[np.arange(137), case.targets]).mean(), rel=1e-5)
    assert result.ece == pytest.approx(calibration_error(shares, case.targets), rel=1e-4)
    assert result.ece > 0.01


def test_numbers_are_those_of_torchmetrics(case: Case) -> None:
    logits, targets = torch.from_numpy(case.logits[case.index]).float(), torch.from_numpy(case.targets)
    result = evaluate(Table(case.logits), case.data)
    share = multiclass_accuracy(logits, targets, CLASSES, average="micro")
    assert result.acc == pytest.approx(float(share), abs=1e-7)
    error = multiclass_calibration_error(logits.softmax(dim=1), targets, CLASSES, 15)
    assert result.ece == pytest.approx(float(error), abs=1e-6)


def test_accuracy_counts_images_and_not_classes() -> None:
    # 90 images of class 0 rightly, 10 of class 1 wrongly: the mean over classes would be 0.5.
    logits = np.zeros((COUNT, CLASSES))
    logits[:, 0] = 1
    targets = np.array([0] * 90 + [1] * 10)
    assert evaluate(Table(logits), data_of(np.arange(100), targets)).acc == 0.9


@pytest.mark.parametrize("right", [0, 1, 100, 112, 137])
def test_accuracy_is_an_exact_fraction(right: int) -> None:
    logits = np.zeros((COUNT, CLASSES))
    logits[:, 2] = 1
    targets = np.where(np.arange(137) < right, 2, 3)
    assert evaluate(Table(logits), data_of(np.arange(137), targets)).acc == right / 137


def test_calibration_by_hand() -> None:
    # Confidence 1/2 of which 1/4 is right, and confidence 0.97 of which all is.
    logits = np.log(np.array([[0.5, 0.3, 0.1, 0.1]] * 4 + [[0.97, 0.01, 0.01, 0.01]] * 4 + [[1] * 4] * 192))
    targets = np.array([0, 1, 1, 1, 0, 0, 0, 0])
    result = evaluate(Table(logits), data_of(np.arange(8), targets))
    assert result.ece == pytest.approx(0.5 * 0.25 + 0.5 * 0.03, abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_bins_are_those_of_numpy_and_sum_to_the_calibration_error(seed: int) -> None:
    random = np.random.default_rng(seed)
    logits = random.normal(size=(COUNT, CLASSES)) * random.uniform(0.1, 6, size=(COUNT, 1))
    logits[0] = [200, 0, 0, 0]  # of which softmax in float32 makes exactly 1
    targets = random.integers(0, CLASSES, COUNT)
    shares = probabilities(logits.astype(np.float32).astype(np.float64))
    confidence, right = shares.max(axis=1), shares.argmax(axis=1) == targets
    bins = np.minimum((confidence * 15).astype(int), 14)
    result = evaluate(Table(logits), data_of(np.arange(COUNT), targets))
    found = result.calibration
    assert len(found.counts) == len(found.confidence) == len(found.accuracy) == 15
    for i in range(15):
        inside = bins == i
        assert found.counts[i] == inside.sum()
        if inside.any():
            assert found.confidence[i] == pytest.approx(confidence[inside].mean(), abs=1e-6)
            assert found.accuracy[i] == pytest.approx(right[inside].mean(), abs=1e-12)
        else:
            assert found.confidence[i] is None
            assert found.accuracy[i] is None
    gaps = [
        count * abs(right - sure)
        for count, sure, right in zip(*vars(found).values(), strict=True)
        if sure is not None and right is not None
    ]
    assert sum(gaps) / COUNT == pytest.approx(result.ece, abs=1e-6)
    assert 0 in found.counts


@pytest.mark.parametrize("right", [0.0, 0.5, 0.97])
def test_the_calibration_error_follows_from_the_bins_of_saturated_predictions(right: float) -> None:
    # Most images have a confidence of exactly 1 in float32, the others lie in the last bin beside them.
    random = np.random.default_rng(0)
    logits = np.zeros((COUNT, CLASSES))
    logits[:, 0] = 200
    logits[:40, 0] = random.uniform(4, 6, 40)
    targets = np.where(random.random(COUNT) < right, 0, 1)
    assert (torch.from_numpy(logits).float().softmax(dim=1).amax(dim=1) == 1).sum() == COUNT - 40
    result = evaluate(Table(logits), data_of(np.arange(COUNT), targets))
    found = result.calibration
    assert found.counts == (*[0] * 14, COUNT)
    assert found.accuracy[14] is not None
    assert found.confidence[14] is not None
    assert result.ece == pytest.approx(abs(found.accuracy[14] - found.confidence[14]), abs=1e-6)
    shares = probabilities(logits)
    assert result.ece == pytest.approx(calibration_error(shares, targets), abs=1e-6)


def test_weights_that_diverged_have_bins_too(case: Case) -> None:
    broken = evaluate(Table(np.full_like(case.logits, np.nan)), case.data)
    assert np.isnan(broken.loss)
    assert sum(broken.calibration.counts) == 137


def test_calibration_of_certain_predictions() -> None:
    logits = np.log(np.array([[0.97, 0.01, 0.01, 0.01]] * COUNT))
    logits[0, 0] = 100  # of which softmax in float32 makes exactly 1
    targets = np.array([1, 0, 0, 0])
    # All four are in the last bin: 3/4 are right, with a mean confidence of (1 + 3 x 0.97) / 4.
    result = evaluate(Table(logits), data_of(np.arange(4), targets))
    assert result.ece == pytest.approx((1 + 3 * 0.97) / 4 - 3 / 4, abs=1e-6)


@pytest.mark.parametrize("batch_size", [1, 50, 137, 1000])
def test_batch_size_does_not_matter(case: Case, batch_size: int) -> None:
    whole, model = evaluate(Table(case.logits), case.data), Table(case.logits)
    assert evaluate(model, case.data, batch_size) == whole
    assert sum(model.passes) == 137
    assert max(model.passes) == min(batch_size, 137)


def test_network_is_evaluated_as_it_predicts_and_left_as_it_was() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(9, 50), nn.BatchNorm1d(50), nn.Dropout(0.5), nn.Linear(50, 4)
    )
    before = {name: value.clone() for name, value in model.state_dict().items()}
    data = data_of(np.arange(COUNT), np.arange(COUNT) % 4)
    model.train()
    first = evaluate(model, data)
    # With dropout on, batch statistics, or the random views of training, a second time would differ.
    assert evaluate(model, data) == first
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("training", [True, False])
def test_mode_is_restored(case: Case, training: bool) -> None:
    model = nn.Sequential(Table(case.logits), nn.Identity()).train(training)
    evaluate(model, case.data)
    assert all(module.training is training for module in model.modules())


def test_mode_is_restored_after_an_exception(case: Case) -> None:
    class Broken(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            raise RuntimeError("out of memory")

    model = Broken().train()
    with pytest.raises(RuntimeError, match="out of memory"):
        evaluate(model, case.data)
    assert model.training
    assert torch.is_grad_enabled()


def test_half_precision_networks_are_judged_in_float32(case: Case) -> None:
    class Half(Table):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images).bfloat16()

    rounded = torch.from_numpy(case.logits).bfloat16().double().numpy()
    assert evaluate(Half(case.logits), case.data) == evaluate(Table(rounded), case.data)


def test_confusion_counts_true_and_predicted_classes(case: Case) -> None:
    found = evaluate(Table(case.logits), case.data)
    predicted = case.logits[case.index].astype(np.float32).argmax(axis=1)
    expected = np.zeros((CLASSES, CLASSES), dtype=int)
    np.add.at(expected, (case.targets, predicted), 1)
    assert found.confusion == expected.tolist()
    macro = multiclass_accuracy(
        torch.from_numpy(predicted), torch.from_numpy(case.targets), num_classes=CLASSES, average="macro"
    )
    assert found.metrics["balanced_acc"] == pytest.approx(macro.item())
