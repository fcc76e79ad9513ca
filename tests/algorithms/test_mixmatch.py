from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from torch import Tensor, nn
from torch.distributions import Beta

from sslbench.algorithms import mixmatch
from sslbench.algorithms.mixmatch import MixMatch
from sslbench.core import Batch, Distance, Progress, StepOutput
from sslbench.engine.step import move_averages
from sslbench.losses import kl, mse

LABELLED, UNLABELLED, CLASSES = 3, 4, 5
DEFAULTS = {
    "temperature": 0.5,
    "num_augmentations": 2,
    "alpha": 0.75,
    "mix_labelled": True,
    "ema": 0.9,
    "weight": 75.0,
    "ramp_up": 0.5,
}


class Recorder(nn.Module):
    """A linear network that remembers its inputs."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(12, CLASSES).double()
        self.inputs: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.inputs.append(images)
        logits: Tensor = self.layer(images.flatten(1))
        return logits


def algorithm(distance: Distance = mse, **changes: Any) -> MixMatch:
    return MixMatch(distance, **{**DEFAULTS, **changes})


def example(views: int = 2) -> Batch:
    torch.manual_seed(1)
    unlabelled = 2 * torch.randn(views, UNLABELLED, 1, 3, 4).double()
    labelled, targets = torch.randn(LABELLED, 1, 3, 4).double(), torch.tensor([4, 0, 2])
    return Batch((labelled,), targets, tuple(unlabelled), torch.arange(LABELLED), torch.arange(UNLABELLED))


def step(model: nn.Module, batch: Batch, distance: Distance = mse, **changes: Any) -> StepOutput:
    """One step in the first eighth of a run."""
    method = algorithm(distance, **changes)
    return method.step({"student": model}, batch, Progress(torch.tensor(1.0), 8))


def guess_of(model: nn.Module, batch: Batch, temperature: float) -> np.ndarray:
    with torch.no_grad():
        views = np.stack([softmax(model(view).numpy(), axis=1) for view in batch.unlabelled])
    powers = views.mean(axis=0) ** (1 / temperature)
    guess: np.ndarray = powers / powers.sum(axis=1, keepdims=True)
    return guess


def reference(
    model: nn.Module, batch: Batch, partner: list[int], share: list[float], first: int
) -> tuple[float, float]:
    """Both terms, image by image; those before `first` are not mixed."""
    images = np.concatenate([view.numpy() for view in (*batch.labelled, *batch.unlabelled)])
    one_hot = np.eye(CLASSES)[batch.targets.numpy()]
    targets = np.concatenate([one_hot, *[guess_of(model, batch, 0.5)] * len(batch.unlabelled)])
    mixed, mixed_targets = images.copy(), targets.copy()
    for position in range(first, len(images)):
        other = partner[position - first]
        s = max(share[position - first], 1 - share[position - first])
        mixed[position] = s * images[position] + (1 - s) * images[other]
        mixed_targets[position] = s * targets[position] + (1 - s) * targets[other]
    with torch.no_grad():
        logits = model(torch.from_numpy(mixed)).numpy()
    likelihoods = log_softmax(logits[:LABELLED], axis=1)
    squares = (softmax(logits[LABELLED:], axis=1) - mixed_targets[LABELLED:]) ** 2
    supervised = -(mixed_targets[:LABELLED] * likelihoods).sum() / LABELLED
    return float(supervised), float(squares.sum() / (UNLABELLED * len(batch.unlabelled) * CLASSES))


@pytest.mark.parametrize("views", [1, 2, 3])
@pytest.mark.parametrize("mix_labelled", [True, False])
def test_loss_is_the_papers_formula(mix_labelled: bool, views: int) -> None:
    model, batch = Recorder(), example(views)
    torch.manual_seed(2)
    output = step(model, batch, mix_labelled=mix_labelled, num_augmentations=views)
    torch.manual_seed(2)
    first = 0 if mix_labelled else LABELLED
    partner = first + torch.randperm(LABELLED + views * UNLABELLED - first)
    alpha = torch.full((len(partner),), 0.75)
    share = Beta(alpha, alpha).sample().double()
    supervised, consistency = reference(model, batch, partner.tolist(), share.tolist(), first)
    weight = 75 * 0.25  # a quarter of a straight ramp
    # The larger of the shares is taken in float32.
    assert output.terms["supervised"].item() == pytest.approx(supervised, rel=1e-6)
    assert output.terms["consistency"].item() == pytest.approx(consistency, rel=1e-6)
    assert output.losses["main"].item() == pytest.approx(supervised + weight * consistency, rel=1e-6)
    assert output.monitors["consistency_weight"].item() == pytest.approx(weight)
    confidence = guess_of(model, batch, 0.5).max(axis=1).mean()
    assert output.monitors["guess_confidence"].item() == pytest.approx(confidence, rel=1e-6)


@pytest.mark.parametrize("share", [0.1, 0.9])
def test_mixtures_stay_nearer_to_their_own_image(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Labelled images get unlabelled partners here."""
    shift = LABELLED
    monkeypatch.setattr(torch, "randperm", lambda count, **_: torch.arange(count).roll(-shift))
    monkeypatch.setattr(mixmatch, "mixup_coefficients", lambda count, *_: torch.full((count,), share))
    model, batch = Recorder(), example()
    step(model, batch)
    images = torch.cat([*batch.labelled, *batch.unlabelled])
    expected = 0.9 * images + 0.1 * images.roll(-shift, dims=0)
    torch.testing.assert_close(model.inputs[-1], expected, rtol=1e-6, atol=1e-6)


def test_labelled_images_are_mixed_with_unlabelled_ones_only_if_asked() -> None:
    batch = example()
    images = torch.cat([*batch.labelled, *batch.unlabelled])
    # Marks: labelled images are 1 and unlabelled ones 0, so a mixture shows the labelled share in it.
    marked = torch.zeros_like(images)
    marked[:LABELLED] = 1
    labelled, *unlabelled = marked.split([LABELLED, UNLABELLED, UNLABELLED])
    marks = Batch((labelled,), batch.targets, tuple(unlabelled), batch.labelled_index, batch.unlabelled_index)
    torch.manual_seed(3)
    for mix_labelled in (True, False):
        below, above = 0, 0
        for _ in range(5):
            model = Recorder()
            step(model, marks, mix_labelled=mix_labelled)
            below += int((model.inputs[-1][:LABELLED] < 1).any())
            above += int((model.inputs[-1][LABELLED:] > 0).any())
        assert bool(below) == mix_labelled
        assert bool(above) == mix_labelled


def test_without_mixing_labels_the_supervised_term_is_cross_entropy() -> None:
    model, batch = Recorder(), example()
    output = step(model, batch, mix_labelled=False)
    expected = nn.functional.cross_entropy(model(batch.labelled[0]), batch.targets)
    torch.testing.assert_close(output.terms["supervised"], expected)


@pytest.mark.parametrize("distance", [mse, kl])
def test_targets_are_constant_probabilities_and_predictions_are_logits(distance: Distance) -> None:
    seen: list[tuple[Tensor, Tensor]] = []

    def spy(logits: Tensor, target: Tensor) -> Tensor:
        seen.append((logits, target))
        return distance(logits, target)

    model, batch = Recorder(), example()
    output = step(model, batch, spy)
    ((logits, target),) = seen
    assert logits.shape == target.shape == (2 * UNLABELLED, CLASSES)
    assert not target.requires_grad
    assert (target >= 0).all()
    torch.testing.assert_close(target.sum(1), torch.ones(2 * UNLABELLED, dtype=torch.float64))
    torch.testing.assert_close(logits, model(model.inputs[-1])[LABELLED:])
    assert (logits < 0).any()
    # With constant targets the gradient is that of the distance at the mixed images alone.
    (found,) = torch.autograd.grad(output.terms["consistency"], model.layer.weight, retain_graph=True)
    mixed = model.inputs[-2].detach()
    (expected,) = torch.autograd.grad(distance(model(mixed)[LABELLED:], target).mean(), model.layer.weight)
    torch.testing.assert_close(found, expected)
    assert found.abs().max() > 0


def test_the_pseudo_label_is_the_sharpened_mean_of_probabilities(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen with images that are not mixed; both views carry the same guess."""
    monkeypatch.setattr(mixmatch, "mixup_coefficients", lambda count, *_: torch.ones(count))
    seen: list[Tensor] = []

    def spy(logits: Tensor, target: Tensor) -> Tensor:
        seen.append(target)
        return mse(logits, target)

    model, batch = Recorder(), example()
    output = step(model, batch, spy, temperature=0.25)
    expected = torch.from_numpy(guess_of(model, batch, 0.25))
    assert output.pseudo_labels is not None
    torch.testing.assert_close(output.pseudo_labels.probabilities, expected)
    assert output.pseudo_labels.weights.tolist() == [1] * UNLABELLED
    torch.testing.assert_close(seen[0], torch.cat([expected, expected]))
    with torch.no_grad():
        of_mean_logits = (torch.stack([model(view) for view in batch.unlabelled]).mean(0) / 0.25).softmax(1)
    assert (seen[0][:UNLABELLED] - of_mean_logits).abs().max() > 0.01


def test_evaluated_average_follows_the_student() -> None:
    method = algorithm(ema=0.6)
    models = method.build(Recorder)
    student, average = (models[name].get_parameter("layer.weight") for name in ("student", "average"))
    assert torch.equal(student, average)
    assert not average.requires_grad
    torch.manual_seed(4)
    expected = torch.zeros_like(average)
    for number in range(4):
        with torch.no_grad():
            student.add_(torch.randn_like(student))
        move_averages(models, method.averages, Progress(torch.tensor(float(number)), 8))
        decay = min(1 - 1 / (number + 1), 0.6)
        expected = decay * expected + (1 - decay) * student.detach()
    torch.testing.assert_close(average, expected, rtol=1e-6, atol=1e-6)
    assert method.predictors == ("average", "student")
    assert method.trained == ("student",)


def test_a_view_for_each_augmentation() -> None:
    assert algorithm(num_augmentations=3).views.unlabelled == ("weak",) * 3
