from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from scipy.special import softmax
from torch import Tensor, nn

from sslbench.algorithms.temporal_ensembling import PredictionAverages, TemporalEnsembling
from sslbench.core import Batch, Progress, StepOutput
from sslbench.losses import ce, js, kl, l1, mse

CLASSES, TRAIN, DECAY = 4, 7, 0.6
#: Some images are visited often, some seldom, and image 6 never.
VISITS = [[0, 1, 2], [2, 0, 3], [4, 2, 0], [5, 1, 2]]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, CLASSES)).double()


def models_of(decay: float = DECAY) -> dict[str, nn.Module]:
    return {"student": network(), "averages": PredictionAverages(TRAIN, CLASSES, decay).double()}


def example(index: list[int], seed: int) -> Batch:
    torch.manual_seed(seed)
    images = 2 * torch.randn(len(index), 1, 3, 4).double()
    labelled, targets = torch.randn(2, 1, 3, 4).double(), torch.tensor([3, 1])
    return Batch((labelled,), targets, (images,), torch.arange(2), torch.tensor(index))


def step(models: dict[str, nn.Module], batch: Batch) -> StepOutput:
    algorithm = TemporalEnsembling(mse, decay=DECAY, weight=30.0, ramp_up=0.5)
    return algorithm.step(models, batch, Progress(torch.tensor(1.0), 8))


def move(student: nn.Module, seed: int) -> None:
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(torch.randn_like(parameter))


def probabilities(models: dict[str, nn.Module], batch: Batch) -> np.ndarray:
    with torch.no_grad():
        found: np.ndarray = softmax(models["student"](batch.unlabelled[0]).numpy(), axis=1)
    return found


def test_loss_is_the_papers_formula_at_each_visit() -> None:
    """The reference keeps all predictions of an image and weighs them when they are needed."""
    models = models_of()
    history: dict[int, list[np.ndarray]] = {image: [] for image in range(TRAIN)}
    for number, index in enumerate(VISITS):
        move(models["student"], number)
        batch = example(index, number)
        predicted = probabilities(models, batch)
        total = 0.0
        for image, own in zip(index, predicted, strict=True):
            if past := history[image]:
                weights = [DECAY ** (len(past) - 1 - place) for place in range(len(past))]
                total += np.square(own - np.average(past, axis=0, weights=weights)).mean()
        output = step(models, batch)
        for image, own in zip(index, predicted, strict=True):
            history[image].append(own)
        assert output.terms["consistency"].item() == pytest.approx(total / 3, rel=1e-12, abs=1e-15)
        weight = 30 * math.exp(-5 * 0.75**2)
        expected = output.terms["supervised"].item() + weight * total / 3
        assert output.losses["main"].item() == pytest.approx(expected, rel=1e-6)
    counts = [len(history[image]) for image in range(TRAIN)]
    assert counts == [3, 2, 4, 1, 1, 1, 0]
    assert models["averages"].visits.tolist() == counts


def test_an_image_without_a_visit_weighs_nothing() -> None:
    models = models_of()
    output = step(models, example([0, 1, 2], 0))
    assert output.terms["consistency"].item() == 0
    assert output.monitors["visited_share"].item() == 0
    output = step(models, example([0, 3, 4], 1))
    assert output.terms["consistency"].item() > 0
    assert output.monitors["visited_share"].item() == pytest.approx(1 / 3)


@pytest.mark.parametrize("decay", [0.0, 0.6, 0.99])
def test_averages_are_distributions_from_the_first_visit_on(decay: float) -> None:
    averages = PredictionAverages(TRAIN, CLASSES, decay)
    torch.manual_seed(0)
    index = torch.tensor([5, 0])
    first = torch.randn(2, CLASSES).softmax(dim=1)
    averages.update(index, first)
    torch.testing.assert_close(averages(index)[0], first)
    for _ in range(5):
        averages.update(index, torch.randn(2, CLASSES).softmax(dim=1))
        torch.testing.assert_close(averages(index)[0].sum(dim=1), torch.ones(2))
    unvisited, visited = averages(torch.tensor([3]))
    assert (unvisited == 0).all()
    assert not visited.any()


def test_the_target_is_of_earlier_steps_and_constant() -> None:
    seen: list[Tensor] = []

    def spy(logits: Tensor, target: Tensor) -> Tensor:
        seen.append(target.clone())
        assert not target.requires_grad
        return mse(logits, target)

    models = models_of()
    algorithm = TemporalEnsembling(spy, decay=DECAY, weight=1.0, ramp_up=0.0)
    predicted = []
    for number in range(2):
        move(models["student"], number)
        batch = example([0, 1, 2], number)
        predicted.append(probabilities(models, batch))
        algorithm.step(models, batch, Progress(torch.tensor(1.0), 8))
    np.testing.assert_allclose(seen[1].numpy(), predicted[0], rtol=1e-12)


def test_an_image_twice_in_a_batch_is_visited_once_with_its_first_prediction() -> None:
    """Whatever the order of the writes: all that go to one row are equal."""
    torch.manual_seed(0)
    predictions = torch.randn(5, CLASSES).softmax(dim=1)
    averages = PredictionAverages(TRAIN, CLASSES, DECAY)
    averages.update(torch.tensor([2, 4, 2, 1, 2]), predictions)
    assert averages.visits.tolist() == [0, 1, 1, 0, 1, 0, 0]
    found, _ = averages(torch.tensor([2, 4, 1]))
    torch.testing.assert_close(found, predictions[[0, 1, 3]])


@pytest.mark.parametrize("distance", [mse, l1, kl, js, ce])
def test_empty_averages_leave_loss_and_gradient_finite(distance: object) -> None:
    models = models_of()
    algorithm = TemporalEnsembling(distance, decay=DECAY, weight=1.0, ramp_up=0.0)  # type: ignore[arg-type]
    output = algorithm.step(models, example([0, 1, 2], 0), Progress(torch.tensor(1.0), 8))
    output.losses["main"].backward()
    assert output.terms["consistency"].item() == 0
    assert all(p.grad is not None and p.grad.isfinite().all() for p in models["student"].parameters())


def test_state_survives_a_checkpoint() -> None:
    models = models_of()
    step(models, example([0, 1, 2], 0))
    saved = copy.deepcopy(models["averages"].state_dict())
    fresh = {"student": models["student"], "averages": models_of()["averages"]}
    fresh["averages"].load_state_dict(saved)
    batch = example([2, 0, 5], 1)
    assert torch.equal(step(fresh, batch).losses["main"], step(models, batch).losses["main"])
    assert torch.equal(fresh["averages"].averages, models["averages"].averages)
