"""The step of FixMatch's family against the formula, with parts whose numbers are known."""

from __future__ import annotations

import copy
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sslbench.algorithms.fixmatch import FixMatch
from sslbench.algorithms.weak_to_strong.protocol import Predictions
from sslbench.algorithms.weak_to_strong.targets import HardTargets, SoftTargets
from sslbench.algorithms.weak_to_strong.thresholds import FixedThreshold
from sslbench.core import Batch, DataSpec, Progress
from sslbench.data.strong import RandomOperations
from sslbench.models import MLP

SPEC = DataSpec(1, 4, 4, 3, 40)
STRONG = RandomOperations("paper", 2, 0.5, 0.0)


class Factory:
    spec = SPEC

    def __call__(self, num_outputs: int | None = None) -> nn.Module:
        torch.manual_seed(1)
        return MLP(1, (4, 4), num_outputs or 3, hidden=[8], dropout=0.0, batch_norm=True).double()


def fixmatch(**arguments: Any) -> FixMatch:
    usual: dict[str, Any] = {
        "strong": STRONG,
        "weighting": FixedThreshold(0.4),
        "targets": HardTargets(aligned=False),
        "weight": 2.0,
        "ramp_up": 0.0,
        "ema": 0.9,
        "joint_batch": False,
    }
    return FixMatch(**{**usual, **arguments})


def batch(labelled_strong: bool = False) -> Batch:
    torch.manual_seed(0)
    views = [torch.randn(5, 1, 4, 4, dtype=torch.float64) for _ in range(1 + labelled_strong)]
    unlabelled = tuple(torch.randn(7, 1, 4, 4, dtype=torch.float64) for _ in range(2))
    return Batch(
        tuple(views), torch.tensor([0, 1, 2, 1, 0]), unlabelled, torch.arange(5), torch.arange(20, 27)
    )


def at(step: float) -> Progress:
    return Progress(torch.tensor(step), 100)


def log_softmax(logits: Tensor) -> Any:
    values = logits.detach().numpy()
    return values - np.log(np.exp(values).sum(axis=1, keepdims=True))


def cross_entropy(logits: Tensor, classes: Any) -> Any:
    return -log_softmax(logits)[np.arange(len(classes)), classes]


def statistics(model: nn.Module) -> list[Tensor]:
    return [buffer.clone() for buffer in model.buffers()]


def test_the_loss_is_the_formula() -> None:
    algorithm, images = fixmatch(), batch()
    models = algorithm.build(Factory())
    reference = copy.deepcopy(models["student"])
    output = algorithm.step(models, images, at(0))
    labelled = reference(images.labelled[0])
    weak = reference(images.unlabelled[0])  # each view is normalised by its own statistics
    seen = statistics(reference)
    strong = reference(images.unlabelled[1])
    predicted = np.exp(log_softmax(weak))
    accepted = predicted.max(axis=1) >= 0.4
    assert 0 < accepted.sum() < 7, "one side of the threshold shows nothing"
    supervised = cross_entropy(labelled, images.targets.numpy()).mean()
    pseudo = (accepted * cross_entropy(strong, predicted.argmax(axis=1))).sum() / 7
    assert output.terms["supervised"].item() == pytest.approx(supervised)
    assert output.terms["pseudo_label"].item() == pytest.approx(pseudo)
    assert output.losses["main"].item() == pytest.approx(supervised + 2 * pseudo)
    assert all(map(torch.equal, statistics(models["student"]), seen)), (
        "strong views leave the statistics alone"
    )
    assert output.pseudo_labels is not None
    np.testing.assert_array_equal(output.pseudo_labels.weights.numpy(), accepted)
    np.testing.assert_array_equal(
        output.pseudo_labels.probabilities.numpy(), np.eye(3)[predicted.argmax(axis=1)]
    )


def test_a_joint_batch_is_one_pass_with_common_statistics() -> None:
    algorithm, images = fixmatch(joint_batch=True), batch()
    models = algorithm.build(Factory())
    reference = copy.deepcopy(models["student"])
    output = algorithm.step(models, images, at(0))
    logits = reference(torch.cat([*images.labelled, *images.unlabelled]))
    labelled, weak, strong = logits[:5], logits[5:12], logits[12:]
    predicted = np.exp(log_softmax(weak))
    supervised = cross_entropy(labelled, images.targets.numpy()).mean()
    pseudo = ((predicted.max(axis=1) >= 0.4) * cross_entropy(strong, predicted.argmax(axis=1))).sum() / 7
    assert output.losses["main"].item() == pytest.approx(supervised + 2 * pseudo)
    assert all(map(torch.equal, statistics(models["student"]), statistics(reference)))


@pytest.mark.parametrize("joint_batch", [False, True])
def test_the_weak_view_gets_no_gradient(joint_batch: bool) -> None:
    algorithm, images = fixmatch(joint_batch=joint_batch), batch()
    models = algorithm.build(Factory())
    for layer in models["student"].modules():
        if isinstance(layer, nn.BatchNorm1d):  # it joins the images of a batch
            layer.eval()
    for view in images.unlabelled:
        view.requires_grad_()
    loss = algorithm.step(models, images, at(0)).losses["main"]
    weak, strong = torch.autograd.grad(loss, images.unlabelled, allow_unused=True)
    assert weak is None or not weak.any()
    assert strong is not None
    assert strong.any()


def test_labelled_images_may_have_a_strong_view() -> None:
    algorithm, images = fixmatch(labelled_strong=True), batch(labelled_strong=True)
    models = algorithm.build(Factory())
    reference = copy.deepcopy(models["student"])
    output = algorithm.step(models, images, at(0))
    assert algorithm.views.labelled == ("weak", STRONG)
    classes = images.targets.numpy()
    both = [cross_entropy(reference(view), classes).mean() for view in images.labelled]
    assert output.terms["supervised"].item() == pytest.approx(sum(both) / 2)


def test_interpolated_logits_lie_between_those_of_the_two_passes() -> None:
    algorithm, images = fixmatch(joint_batch=True, interpolate_logits=True), batch()
    models = algorithm.build(Factory())
    reference = copy.deepcopy(models["student"])
    seen: list[Tensor] = []

    class Labelled(nn.Module):
        def forward(self, predictions: Predictions) -> Tensor:
            seen.append(predictions.labelled.detach())
            return predictions.labelled.mean()

    models["labelled"] = Labelled()
    algorithm.step(models, images, at(0))
    alone = copy.deepcopy(reference)(images.labelled[0]).detach()
    joint = reference(torch.cat([*images.labelled, *images.unlabelled]))[:5].detach()
    share = (seen[0] - alone) / (joint - alone)
    assert ((share >= 0) & (share <= 1)).all()
    assert share.std() > 0.1, "each logit has a share of its own"
    assert all(map(torch.equal, statistics(models["student"]), statistics(reference))), "one pass feeds them"
    with pytest.raises(ValueError, match="interpolate_logits=true needs joint_batch=true"):
        fixmatch(interpolate_logits=True)


def test_the_parts_meet_in_the_loss() -> None:
    """Alignment before weighting and targets; the alignment's logits; the extra term and its weights."""

    class Alignment(nn.Module):
        def forward(self, probabilities: Tensor, labelled: Tensor) -> Tensor:
            assert labelled.shape == (5, 3)
            assert not labelled.requires_grad
            return probabilities.flip(1)

        def adjust(self, logits: Tensor) -> Tensor:
            return logits + torch.tensor([1.0, 0.0, -1.0], dtype=logits.dtype)

    class Extra(nn.Module):
        name, weight, needs_features = "shrinkage", 0.5, True

        def forward(self, predictions: Predictions, targets: Tensor, weights: Tensor) -> Tensor:
            assert predictions.features is not None
            return predictions.features.mean() + (weights[:, None] * targets).sum()

    algorithm = fixmatch(alignment=Alignment(), extra=Extra(), targets=HardTargets(aligned=True), ramp_up=0.5)
    images, models = batch(), algorithm.build(Factory())
    assert algorithm.trained == ("student", "extra")
    reference = cast("Any", copy.deepcopy(models["student"]))
    output = algorithm.step(models, images, at(25))
    supervised = cross_entropy(reference(images.labelled[0]), images.targets.numpy()).mean()
    aligned = np.exp(log_softmax(reference(images.unlabelled[0])))[:, ::-1]
    features = reference.features(images.unlabelled[1])
    strong = reference.classifier(features) + torch.tensor([1.0, 0.0, -1.0])
    accepted, classes = aligned.max(axis=1) >= 0.4, aligned.argmax(axis=1)
    pseudo = (accepted * cross_entropy(strong, classes)).sum() / 7
    extra = features.mean().item() + accepted.sum()
    assert output.terms["shrinkage"].item() == pytest.approx(extra)
    # Half of the ramp: its weight is one half of 2.
    assert output.losses["main"].item() == pytest.approx(supervised + pseudo + 0.5 * extra)


def test_an_extra_term_that_reads_features_needs_a_model_with_some() -> None:
    class Extra(nn.Module):
        name, weight, needs_features = "shrinkage", 0.5, True

    class Plain(Factory):
        def __call__(self, num_outputs: int | None = None) -> nn.Module:
            return nn.Linear(16, 3)

    with pytest.raises(ValueError, match="shrinkage needs a model with"):
        fixmatch(extra=Extra()).build(Plain())


def test_a_run_leaves_the_parts_of_the_algorithm_as_they_were() -> None:
    part = FixedThreshold(0.4)
    models = fixmatch(weighting=part).build(Factory())
    assert models["weighting"] is not part


def predictions(probabilities: Tensor, aligned: Tensor) -> Predictions:
    nothing = torch.empty(0)
    return Predictions(
        probabilities.log(), nothing, probabilities, aligned, nothing, nothing, None, nothing, at(0), None
    )


def test_targets_and_threshold() -> None:
    plain = torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3]], dtype=torch.float64)
    seen = predictions(plain, plain.flip(1))
    assert FixedThreshold(0.6)(seen).tolist() == [1, 0]
    assert HardTargets(aligned=False)(seen).tolist() == [[1, 0, 0], [0, 1, 0]]
    assert HardTargets(aligned=True)(seen).tolist() == [[0, 0, 1], [0, 1, 0]]
    powers = plain.numpy() ** (1 / 0.4)
    sharpened = powers / powers.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(SoftTargets(aligned=False, temperature=0.4)(seen).numpy(), sharpened)
    np.testing.assert_allclose(SoftTargets(aligned=True, temperature=0.4)(seen).numpy(), sharpened[:, ::-1])
    np.testing.assert_allclose(SoftTargets(aligned=False, temperature=1.0)(seen).numpy(), plain.numpy())
