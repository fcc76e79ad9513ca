from __future__ import annotations

import itertools
from typing import Any, cast

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from torch import Tensor, nn

from helpers.small_data import CLASSES, Networks, SmallData, same, weights, without_labels_of
from sslbench.algorithms.protocol import Diagnosed, Staged
from sslbench.algorithms.self_training import SelfTraining
from sslbench.core import Batch, Progress, Views
from sslbench.engine.state import TrainingState
from sslbench.engine.step import training_step
from sslbench.errors import UserError
from sslbench.models.targets import PseudoLabels


def method(**changes: Any) -> SelfTraining:
    defaults = {"rounds": 1, "threshold": 0.0, "soft": False, "with_labelled": False}
    return SelfTraining(**{**defaults, **changes})


def labels_of(state: TrainingState) -> PseudoLabels:
    return cast("PseudoLabels", state.models["labels"])


def clean_logits(data: SmallData, model: nn.Module, index: np.ndarray) -> np.ndarray:
    """By hand: in evaluation mode, on images without augmentation."""
    model.eval()
    with torch.no_grad():
        logits: np.ndarray = model(data.images.clean(torch.from_numpy(index))).double().numpy()
    model.train()
    return logits


def test_one_round_has_two_stages() -> None:
    first, second = method().stages
    assert (first.optimizers, first.predictors) == ({"main": ("model_a",)}, ("model_a",))
    assert first.views == Views(labelled=("weak",))
    assert second.optimizers == {"main": ("model_b",)}
    assert second.predictors == ("model_b", "model_a")
    assert second.views == Views(labelled=(), unlabelled=("weak",))
    assert isinstance(method(), Staged)
    assert isinstance(method(), Diagnosed)


def test_each_further_round_is_a_stage_and_the_newest_model_counts() -> None:
    stages = method(rounds=3, with_labelled=True).stages
    assert [stage.optimizers["main"] for stage in stages] == [(f"model_{letter}",) for letter in "abcd"]
    assert [stage.predictors[0] for stage in stages] == [f"model_{letter}" for letter in "abcd"]
    assert stages[3].predictors == ("model_d", "model_c", "model_b", "model_a")
    assert stages[0].views == Views(labelled=("weak",))
    assert {stage.views for stage in stages[1:]} == {Views(labelled=("weak",), unlabelled=("weak",))}


def test_every_model_is_a_fresh_one() -> None:
    data = SmallData()
    factory = Networks(data.spec)
    models = method(rounds=3).build(factory)
    assert list(models) == ["model_a", "model_b", "model_c", "model_d", "labels"]
    assert factory.made == 4
    firsts = [next(models[f"model_{letter}"].parameters()) for letter in "abcd"]
    assert all(not torch.equal(one, other) for one, other in itertools.pairwise(firsts))
    assert models["labels"](torch.tensor([89])).shape == (1, CLASSES)


def example() -> tuple[nn.Module, Batch, np.ndarray]:
    """A network in float64, a batch, and soft targets for the whole training set of 20."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 4)).double()
    labelled, unlabelled = torch.randn(6, 1, 3, 4).double(), torch.randn(9, 1, 3, 4).double()
    batch = Batch(
        (labelled,), torch.randint(0, 4, (6,)), (unlabelled,), torch.arange(6), torch.randperm(20)[:9]
    )
    return model, batch, softmax(np.random.default_rng(0).normal(size=(20, 4)), axis=1).astype(np.float32)


def log_likelihoods(model: nn.Module, images: Tensor) -> np.ndarray:
    with torch.no_grad():
        found: np.ndarray = log_softmax(model(images).numpy(), axis=1)
    return found


@pytest.mark.parametrize("with_labelled", [False, True])
@pytest.mark.parametrize("stage", [0, 1])
def test_loss_is_the_cross_entropy(stage: int, with_labelled: bool) -> None:
    model, batch, given = example()
    labels = PseudoLabels(20, 4)
    labels.assign(torch.arange(20), torch.from_numpy(given))
    other = nn.Sequential(nn.Flatten(), nn.Linear(12, 4)).double()
    models = {"model_a": other if stage else model, "model_b": model if stage else other, "labels": labels}
    output = method(with_labelled=with_labelled).step(models, batch, Progress(torch.tensor(0.0), 8, stage))
    expected = {}
    if stage:
        rows = given.astype(np.float64)[batch.unlabelled_index.numpy()]
        expected["pseudo"] = -(rows * log_likelihoods(model, batch.unlabelled[0])).sum() / 9
        assert output.pseudo_labels is not None
        np.testing.assert_array_equal(output.pseudo_labels.probabilities.numpy(), rows)
    else:
        assert output.pseudo_labels is None
    if not stage or with_labelled:
        likelihoods = log_likelihoods(model, batch.labelled[0])
        expected["supervised"] = -likelihoods[np.arange(6), batch.targets.numpy()].mean()
    found = {name: term.item() for name, term in output.terms.items()}
    assert found == pytest.approx(expected, rel=1e-12)
    assert output.losses["main"].item() == pytest.approx(sum(expected.values()), rel=1e-12)
    output.losses["main"].backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert all(parameter.grad is None for parameter in other.parameters())


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("stage", [1, 2])
def test_the_model_before_labels_those_of_which_it_is_sure(stage: int, soft: bool) -> None:
    data = SmallData()
    algorithm = method(rounds=2, threshold=0.5, soft=soft)
    state = data.state(algorithm)
    pool = algorithm.begin_stage(state.models, stage, data.parts.training)
    assert all(model.training for model in state.models.values())
    unlabelled = data.split.unlabelled
    before = state.models["model_a" if stage == 1 else "model_b"]
    probabilities = softmax(clean_logits(data, before, unlabelled), axis=1)
    sure = probabilities.max(axis=1) >= 0.5
    assert 0 < sure.sum() < len(unlabelled)
    assert np.array_equal(pool.numpy(), unlabelled[sure])
    labels = labels_of(state)
    assert torch.equal(labels.has_pseudo_label.nonzero()[:, 0], pool)
    expected = probabilities[sure] if soft else np.eye(CLASSES)[probabilities[sure].argmax(axis=1)]
    np.testing.assert_allclose(labels(pool).numpy(), expected, rtol=1e-5)


def test_the_next_stage_draws_from_those_images_alone() -> None:
    data = SmallData()
    state = data.state(method(threshold=0.5))
    state.begin_stage(1, data.parts.training)
    drawn = torch.cat([state.batches.next().unlabelled_index for _ in range(20)])
    assert set(drawn.tolist()) == set(labels_of(state).has_pseudo_label.nonzero()[:, 0].tolist())


def test_a_later_round_labels_anew() -> None:
    data = SmallData()
    algorithm = method(rounds=2, threshold=0.5)
    state = data.state(algorithm)
    pools = [
        set(algorithm.begin_stage(state.models, stage, data.parts.training).tolist()) for stage in (1, 2)
    ]
    assert pools[0] - pools[1]
    assert set(labels_of(state).has_pseudo_label.nonzero()[:, 0].tolist()) == pools[1]


def test_nobody_above_the_threshold_is_said_in_one_line() -> None:
    data = SmallData()
    algorithm = method(threshold=1.0)
    state = data.state(algorithm)
    certain = softmax(clean_logits(data, state.models["model_a"], data.split.unlabelled), axis=1).max()
    message = rf"algorithm\.threshold=1\.0 \(the most certain has {certain:.3f}\): lower it, or train longer"
    with pytest.raises(UserError, match=message) as error:
        algorithm.begin_stage(state.models, 1, data.parts.training)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("with_labelled", [False, True])
@pytest.mark.parametrize("soft", [False, True])
def test_no_label_of_an_unlabelled_image_reaches_a_weight(soft: bool, with_labelled: bool) -> None:
    """Wrong labels for all of them: training stays the same bit for bit, and only what is reported moves."""
    split = SmallData().split
    results, reported = [], []
    for targets in (None, without_labels_of(split.unlabelled), without_labels_of(split.labelled)):
        data = SmallData(targets=targets)
        algorithm = method(rounds=2, threshold=0.4, soft=soft, with_labelled=with_labelled)
        state = data.state(algorithm)
        data.train(state, stages=3)
        results.append(weights(state))
        reported.append(algorithm.diagnose(state.models, 2, data.parts))
    assert same(results[0], results[1])
    assert reported[0] != reported[1]
    assert not same(results[0], results[2])


def test_only_its_own_stage_trains_a_model() -> None:
    data = SmallData()
    state = data.state(method())
    for stage, name in enumerate(("model_a", "model_b")):
        if stage:
            state.begin_stage(stage, data.parts.training)
        before = weights(state)
        training_step(state, state.batches.next(), Progress(torch.tensor(0.0), 4, stage), None)
        moved = {key for key, value in weights(state).items() if not torch.equal(value, before[key])}
        assert moved == {f"{name}.2.weight", f"{name}.2.bias"}


def test_examination_tells_every_models_accuracy() -> None:
    data = SmallData()
    algorithm = method(rounds=2, threshold=0.4)
    state = data.state(algorithm)
    for stage in range(3):
        if stage:
            state.begin_stage(stage, data.parts.training)
        found = algorithm.diagnose(state.models, stage, data.parts)
        expected = {}
        for letter in "abc"[: stage + 1]:
            for part in ("labelled", "unlabelled"):
                index = getattr(data.split, part)
                right = clean_logits(data, state.models[f"model_{letter}"], index).argmax(axis=1)
                accuracy = (right == data.targets[index].numpy()).mean()
                expected[f"{part}/model_{letter}_acc"] = accuracy
        if stage:
            labels = labels_of(state)
            pool = labels.has_pseudo_label.nonzero()[:, 0]
            assert 0 < len(pool) < len(data.split.unlabelled)
            expected["diagnostic/pseudo_labels"] = len(pool)
            right = labels(pool).argmax(dim=1) == data.targets[pool]
            expected["diagnostic/pseudo_labels_acc"] = right.double().mean().item()
        assert found == pytest.approx(expected)


def test_25_rounds_have_names() -> None:
    assert method(rounds=25).stages[-1].predictors[0] == "model_z"
