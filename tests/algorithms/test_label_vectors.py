from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from torch import Tensor, nn

from helpers.small_data import CLASSES, Networks, SmallData, same, weights, without_labels_of
from sslbench.algorithms.label_vectors import LabelVectors
from sslbench.algorithms.protocol import Diagnosed, Staged
from sslbench.config.schema import Settings
from sslbench.core import Batch, DataSpec, Progress
from sslbench.engine.loop import evaluate_all
from sslbench.engine.state import TrainingState
from sslbench.engine.step import training_step
from sslbench.errors import UserError
from sslbench.models.label_vector_networks import ClassNetworks, LabelVectorNetworks
from sslbench.models.targets import PseudoLabels
from sslbench.run.train import run

TEMPERATURE = 0.2
FORMS = [("shared", True), ("shared", False), ("per_class", True), ("per_class", False)]
every_form = pytest.mark.parametrize(("networks", "negatives"), FORMS)
each_kind = pytest.mark.parametrize("networks", ["shared", "per_class"])


def method(**changes: Any) -> LabelVectors:
    defaults = {
        "networks": "shared",
        "negatives": True,
        "code_length": 4,
        "max_cosine": 0.8,
        "codebook_seed": 0,
        "temperature": TEMPERATURE,
        "restarts": 2,
        "min_similarity": 0.6,
        "num_per_class": 3,
    }
    return LabelVectors(**{**defaults, **changes})


def networks_of(state: TrainingState, name: str = "round_1") -> LabelVectorNetworks:
    return cast("LabelVectorNetworks", state.models[name])


def labels_of(state: TrainingState) -> PseudoLabels:
    return cast("PseudoLabels", state.models["labels"])


def steady_network(num_outputs: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, num_outputs))


def cosines(networks: LabelVectorNetworks, images: Tensor) -> np.ndarray:
    """By hand, ``[R, B, K]``: of each class's output and that class's own vector."""
    with torch.no_grad():
        codes = np.stack([network(images).double().numpy() for network in networks.tries])
    if codes.ndim == 3:
        codes = np.repeat(codes[:, :, None], CLASSES, axis=2)
    vectors = networks.vectors.double().numpy()
    found: np.ndarray = np.einsum("rbkl,kl->rbk", codes, vectors) / np.linalg.norm(codes, axis=3).clip(1e-12)
    return found


def losses_by_hand(
    networks: LabelVectorNetworks, images: Tensor, classes: Tensor, negatives: bool
) -> np.ndarray:
    similarity = cosines(networks, images)
    values = -log_softmax(similarity / TEMPERATURE, axis=2) if negatives else 1 - similarity
    found: np.ndarray = values[:, np.arange(len(classes)), classes.numpy()]
    return found


@every_form
@pytest.mark.parametrize("stage", [0, 1])
def test_losses_are_the_formulas(networks: str, negatives: bool, stage: int) -> None:
    algorithm = method(networks=networks, negatives=negatives)
    state = SmallData().state(algorithm, steady_network)
    torch.manual_seed(2)
    labelled, unlabelled = torch.randn(6, 1, 4, 4), torch.randn(8, 1, 4, 4)
    classes, given, index = (
        torch.tensor([0, 1, 0, 1, 0, 0]),
        torch.tensor([0, 1, 1, 0] * 2),
        torch.arange(40, 48),
    )
    labels_of(state).assign(index, torch.eye(CLASSES)[given])
    batch = Batch((labelled,), classes, (unlabelled,) if stage else (), torch.arange(len(classes)), index)
    output = algorithm.step(state.models, batch, Progress(torch.tensor(0.0), 8, stage))

    trained = networks_of(state, ("round_1", "round_2")[stage])
    losses = losses_by_hand(trained, labelled, classes, negatives)
    expected = {"supervised": losses.mean()}
    if stage:
        pseudo = losses_by_hand(trained, unlabelled, given, negatives)
        expected["pseudo"] = pseudo.mean()
        assert output.pseudo_labels is not None
        assert torch.equal(output.pseudo_labels.probabilities, torch.eye(CLASSES)[given])
        assert output.pseudo_labels.weights.tolist() == [1] * 8
        losses, classes = np.concatenate([losses, pseudo], axis=1), torch.cat([classes, given])
    found = {name: term.item() for name, term in output.terms.items()}
    assert found == pytest.approx(expected, rel=1e-5)
    assert output.losses["main"].item() == pytest.approx(sum(expected.values()), rel=1e-5)
    means = [losses[:, classes.numpy() == k].mean(axis=1) for k in range(2)]
    running = np.stack([*means, np.zeros(2)], axis=1)  # the third class was not in the batch
    np.testing.assert_allclose(trained.loss.numpy(), 0.02 * running, rtol=1e-4, atol=1e-7)

    output.losses["main"].backward()
    assert all(p.grad is not None for p in trained.parameters())
    other = networks_of(state, ("round_2", "round_1")[stage])
    assert all(p.grad is None for p in other.parameters())
    assert not other.loss.any()


def test_without_negatives_a_network_learns_from_its_own_class_alone() -> None:
    algorithm = method(networks="per_class", negatives=False, restarts=1)
    state = SmallData().state(algorithm)
    batch = Batch(
        (torch.randn(4, 1, 4, 4),), torch.ones(4, dtype=torch.int64), (), torch.arange(4), torch.arange(0)
    )
    algorithm.step(state.models, batch, Progress(torch.tensor(0.0), 8)).losses["main"].backward()
    gradients = [p.grad for p in networks_of(state).parameters()]
    for gradient in gradients:
        assert gradient is not None
        first, _, last = gradient.abs().chunk(CLASSES)
        assert first.sum() == last.sum() == 0
    assert any(g is not None and g.abs().max() > 0 for g in gradients)


def test_stages_are_the_two_rounds() -> None:
    first, second = method().stages
    assert (first.optimizers, first.predictors) == ({"main": ("round_1",)}, ("round_1",))
    assert (second.optimizers, second.predictors) == ({"main": ("round_2",)}, ("round_2", "round_1"))
    assert (first.views.labelled, first.views.unlabelled) == (("weak",), ())
    assert (second.views.labelled, second.views.unlabelled) == (("weak",), ("weak",))
    assert isinstance(method(), Staged)
    assert isinstance(method(), Diagnosed)


def test_tries_and_rounds_have_fresh_networks_and_one_codebook() -> None:
    data = SmallData()
    factory = Networks(data.spec, steady_network)
    models = method(restarts=3).build(factory)
    assert factory.made == 6
    rounds = [cast("LabelVectorNetworks", models[name]) for name in ("round_1", "round_2")]
    firsts = [next(network.parameters()) for tries in rounds for network in tries.tries]
    assert all(not torch.equal(one, other) for one, other in itertools.pairwise(firsts))
    assert torch.equal(rounds[0].vectors, rounds[1].vectors)
    assert next(reversed(list(rounds[0].parameters()))).shape == (4,), "code_length outputs"


@each_kind
def test_only_sure_images_are_labelled_and_few_a_class(networks: str) -> None:
    data = SmallData()
    state = data.state(method(networks=networks))
    networks_of(state).loss.copy_(torch.tensor([[2.0] * CLASSES, [1.0] * CLASSES]))  # the second try predicts
    unlabelled = data.split.unlabelled
    networks_of(state).eval()
    similarity = cosines(networks_of(state), data.images.clean(torch.from_numpy(unlabelled)))[1]
    networks_of(state).train()
    best, classes = similarity.max(axis=1), similarity.argmax(axis=1)
    algorithm = method(networks=networks, min_similarity=float(np.median(best)))
    pools = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        pools.append(algorithm.begin_stage(state.models, 1, data.parts.training))
    assert all(model.training for model in state.models.values())
    sure = best >= np.median(best)
    counts = np.bincount(classes[sure], minlength=CLASSES)
    assert counts.max() > 3, "the limit is put to the test"
    assert 0 < sure.sum() < len(unlabelled)
    for pool in pools:
        chosen = np.searchsorted(unlabelled, pool.numpy())
        assert np.array_equal(unlabelled[chosen], pool.numpy())
        assert len(set(chosen)) == len(chosen)
        assert sure[chosen].all()
        assert np.bincount(classes[chosen], minlength=CLASSES).tolist() == counts.clip(max=3).tolist()
    assert not torch.equal(*pools), "drawn at random"
    labels = labels_of(state)
    assert torch.equal(labels.has_pseudo_label.nonzero()[:, 0], pools[1])
    np.testing.assert_array_equal(labels(pools[1]).numpy(), np.eye(CLASSES)[classes[chosen]])


def test_without_a_threshold_the_most_similar_images_are_labelled() -> None:
    data = SmallData()
    algorithm = method(min_similarity=None, num_per_class=4)
    state = data.state(algorithm)
    pool = algorithm.begin_stage(state.models, 1, data.parts.training)
    unlabelled = data.split.unlabelled
    networks = networks_of(state).eval()
    similarity = cosines(networks, data.images.clean(torch.from_numpy(unlabelled)))[0]
    best, classes = similarity.max(axis=1), similarity.argmax(axis=1)
    expected = [unlabelled[c][np.argsort(-best[c])[:4]] for c in (classes == k for k in range(CLASSES))]
    assert max(np.bincount(classes, minlength=CLASSES)) > 4, "the limit is put to the test"
    assert pool.tolist() == sorted(np.concatenate(expected))
    np.testing.assert_array_equal(
        labels_of(state)(pool).numpy(), np.eye(CLASSES)[classes[np.searchsorted(unlabelled, pool.numpy())]]
    )


def test_the_second_round_draws_from_those_images_alone() -> None:
    data = SmallData()
    state = data.state(method())
    state.begin_stage(1, data.parts.training)
    drawn = torch.cat([state.batches.next().unlabelled_index for _ in range(20)])
    assert set(drawn.tolist()) == set(labels_of(state).has_pseudo_label.nonzero()[:, 0].tolist())


def test_nobody_near_enough_is_said_in_one_line() -> None:
    data = SmallData()
    algorithm = method(min_similarity=1.0)
    message = r"min_similarity=1\.0 \(the nearest has 0\.\d{3}\): lower it, train longer .*similarity=null"
    with pytest.raises(UserError, match=message) as error:
        algorithm.begin_stage(data.state(algorithm).models, 1, data.parts.training)
    assert "\n" not in str(error.value)


@every_form
def test_no_label_of_an_unlabelled_image_reaches_a_weight(networks: str, negatives: bool) -> None:
    """Wrong labels for all of them: training stays the same bit for bit, and only what is reported moves."""
    split = SmallData().split
    results = []
    for targets in (None, without_labels_of(split.unlabelled), without_labels_of(split.labelled)):
        data = SmallData(targets=targets)
        state = data.state(method(networks=networks, negatives=negatives, min_similarity=0.3))
        data.train(state, stages=2)
        results.append(weights(state))
    assert same(results[0], results[1])
    assert not same(results[0], results[2])


def is_right(logits: Tensor, targets: Tensor) -> Tensor:
    return logits.argmax(dim=1) == targets


@each_kind
def test_the_honest_prediction_cannot_see_the_label(networks: str) -> None:
    """Each image has one prediction, which is right under one of the labels it could have."""
    total = 0.0
    for shift in range(CLASSES):
        data = SmallData(targets=(torch.arange(90) + shift) % CLASSES)
        state = data.state(method(networks=networks))
        total += data.parts.mean("test", networks_of(state), is_right)
    assert total == pytest.approx(1)


class Stubborn(nn.Module):
    """Networks, one a class, that answer every image with about their own vector, class 0 exactly so."""

    def __init__(self, vectors: Tensor) -> None:
        super().__init__()
        codes = vectors + 0.1
        codes[0] = vectors[0]
        self.register_buffer("codes", codes)

    def forward(self, x: Tensor) -> Tensor:
        return self.get_buffer("codes").expand(len(x), -1, -1)


def test_a_score_that_reads_the_label_is_perfect_for_networks_that_look_at_nothing() -> None:
    """It bears the name of what it is, and neither the result nor the choice of a checkpoint has it."""
    data = SmallData()
    algorithm = method(networks="per_class", restarts=1)
    state = data.state(algorithm)
    networks_of(state).tries = nn.ModuleList([Stubborn(networks_of(state).vectors)])
    metrics = evaluate_all(state, data.parts, end_of_stage=True)
    accuracies = {key: value for key, value in metrics.items() if re.search(r"(/|informed_)acc$", key)}
    assert accuracies == pytest.approx(
        {"val/acc": 1 / CLASSES, "test/acc": 1 / CLASSES, "diagnostic/label_informed_acc": 1.0}
    )
    assert state.result.test_acc == pytest.approx(1 / CLASSES)
    assert state.result.val_acc_best == pytest.approx(1 / CLASSES)


def test_label_informed_accuracy_is_the_sources_score() -> None:
    data = SmallData()
    algorithm = method(networks="per_class")
    state = data.state(algorithm)
    data.train(state, stages=1)
    networks = networks_of(state)
    networks.loss.copy_(torch.tensor([[1.0, 2.0, 1.0], [2.0, 1.0, 2.0]]))
    with torch.no_grad():
        images = data.images.clean(torch.arange(60, 90))
        codes = np.stack([networks.tries[r](images)[:, k].numpy() for k, r in enumerate((0, 1, 0))], axis=1)
    codes /= np.linalg.norm(codes, axis=2, keepdims=True).clip(1e-12)
    true = data.targets[60:].numpy()
    against_the_true_vector = np.einsum("bkl,bl->bk", codes, networks.vectors.numpy()[true])
    expected = (against_the_true_vector.argmax(axis=1) == true).mean()
    found = algorithm.diagnose(state.models, 0, data.parts)
    assert found == pytest.approx({"diagnostic/label_informed_acc": expected})


@each_kind
def test_diagnostics_of_the_pseudo_labels(networks: str) -> None:
    data = SmallData()
    algorithm = method(networks=networks, min_similarity=0.3)
    state = data.state(algorithm)
    informed = {"diagnostic/label_informed_acc"} if networks == "per_class" else set()
    assert set(algorithm.diagnose(state.models, 0, data.parts)) == informed
    state.begin_stage(1, data.parts.training)
    found = algorithm.diagnose(state.models, 1, data.parts)
    assert set(found) == {*informed, "diagnostic/pseudo_labels", "diagnostic/pseudo_labels_acc"}
    labels = labels_of(state)
    pool = labels.has_pseudo_label.nonzero()[:, 0]
    right = labels(pool).argmax(dim=1) == data.targets[pool]
    assert found["diagnostic/pseudo_labels"] == len(pool) > 0
    assert found["diagnostic/pseudo_labels_acc"] == pytest.approx(right.double().mean().item())


@every_form
def test_both_rounds_train_in_bfloat16_passes(networks: str, negatives: bool) -> None:
    data = SmallData()
    state = data.state(method(networks=networks, negatives=negatives, min_similarity=-1.0))
    for stage, name in enumerate(("round_1", "round_2")):
        if stage:
            state.begin_stage(stage, data.parts.training)
        before = weights(state)
        training_step(state, state.batches.next(), Progress(torch.tensor(0.0), 8, stage), torch.bfloat16)
        after = weights(state)
        assert {key.split(".")[0] for key in after if not torch.equal(after[key], before[key])} == {name}
        assert all(value.isfinite().all() for value in after.values())


def test_the_faithful_form_runs_on_28x28_images(settings_of: Callable[..., Settings], tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (120, 28, 28), dtype=np.uint8)
    classes = np.arange(120) % CLASSES
    np.savez(tmp_path / "my.npz", x_train=pixels, y_train=classes, x_test=pixels[:30], y_test=classes[:30])
    faithful = ["networks=per_class", "negatives=false", "restarts=2", "min_similarity=0.0"]
    result = run(
        settings_of(
            "algorithm=label_vectors",
            *(f"algorithm.{argument}" for argument in faithful),
            "dataset=npz",
            f"dataset.path={tmp_path / 'my.npz'}",
            "num_labels=30",
            "num_valid=30",
            "steps=4",
            "eval_every=2",
        )
    )
    last = result["metrics_last"]
    assert {"test/acc", "test/round_1_acc", "test/round_2_acc", "diagnostic/pseudo_labels"} <= last.keys()
    assert 0 <= last["diagnostic/label_informed_acc"] <= 1
    assert last["diagnostic/pseudo_labels"] > 0
    assert result["test_acc_last"] == last["test/acc"] == last["test/round_2_acc"]


def test_class_networks_have_a_length_of_their_own() -> None:
    factory = Networks(DataSpec(1, 28, 28, CLASSES, num_train=90))
    algorithm = method(networks="per_class", code_length=25)
    tries = cast("LabelVectorNetworks", algorithm.build(factory)["round_1"]).tries
    assert [type(network) for network in tries] == 2 * [ClassNetworks]
    assert factory.made == 0, "the group model has no part in it"
    with pytest.raises(ValueError, match="28x28 pixels: set code_length=25"):
        method(networks="per_class").build(factory)
