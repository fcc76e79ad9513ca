"""FlexMatch, FreeMatch, SoftMatch, AdaMatch and Dash, as the yaml files put them together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from scipy.special import log_softmax, softmax
from torch import Tensor, nn

from helpers.predicted import SPEC, predicted
from sslbench.algorithms.fixmatch import FixMatch
from sslbench.config.build import build
from sslbench.config.schema import conf_dir, register
from sslbench.core import Batch, Progress

Array = np.ndarray


def node(name: str, *words: str) -> Any:
    register()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        composed = compose("config", overrides=[f"algorithm={name}", *words])
    return OmegaConf.to_container(composed.algorithm, resolve=True)


class Linear(nn.Sequential):
    """A linear network, so that predictions do not depend on which images share a pass."""

    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(12, 5))
        self.double()


class Factory:
    spec = SPEC

    def __call__(self, num_outputs: int | None = None) -> nn.Module:
        torch.manual_seed(0)
        return Linear()


class Shifting(nn.Module):
    """A network that adds the number of images of its pass to the first class."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = Linear()

    def forward(self, images: Tensor) -> Tensor:
        shift = torch.tensor([1.0, 0, 0, 0, 0], dtype=images.dtype)
        logits: Tensor = self.linear(images) + len(images) / 10 * shift
        return logits


def images(count: int, seed: int) -> Tensor:
    return torch.randn(count, 1, 3, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def batch(step: int, labelled_views: int) -> Batch:
    views = tuple(images(4, 100 * step + view) for view in range(labelled_views))
    unlabelled = (images(6, 100 * step + 10), images(6, 100 * step + 11))
    return Batch(views, torch.arange(4), unlabelled, torch.arange(4), torch.arange(6))


@pytest.mark.parametrize(
    ("name", "aligned"),
    [("flexmatch", False), ("freematch", False), ("softmatch", False), ("adamatch", True)],
)
def test_pseudo_labels_are_of_the_prediction_that_the_method_names(name: str, aligned: bool) -> None:
    """SoftMatch aligns for the weight only."""
    weak = torch.tensor([[2.0, 1, 0]], dtype=torch.float64)
    predictions = predicted(weak, aligned=torch.tensor([[0.1, 0.2, 0.7]], dtype=torch.float64))
    expected = [0, 0, 1] if aligned else [1, 0, 0]
    assert build(node(name)["targets"], "targets")(predictions).tolist() == [expected]


@pytest.mark.parametrize(
    ("name", "word", "first", "second"),
    [
        ("freematch", "algorithm.weighting.decay=0.5", ("weighting", "decay"), ("extra", "decay")),
        ("softmatch", "algorithm.alignment.decay=0.5", ("alignment", "decay"), ("weighting", "decay")),
        (
            "dash",
            "algorithm.weighting.threshold.minimum=0.5",
            ("weighting", "threshold"),
            ("targets", "threshold"),
        ),
    ],
)
def test_what_two_parts_share_is_said_once(
    name: str, word: str, first: tuple[str, str], second: tuple[str, str]
) -> None:
    changed = node(name, word)
    assert changed[first[0]][first[1]] == changed[second[0]][second[1]]
    assert changed != node(name)


def adamatch_reference(
    method: FixMatch, models: dict[str, nn.Module], step: Batch, wanted: Array, recent: list[Array]
) -> tuple[float, float, float]:
    """Both terms for a network whose logits are the same in each pass, and the share that counts."""
    with torch.no_grad():
        weak_l, strong_l = (models["student"](view).numpy() for view in step.labelled)
        weak, strong = (models["student"](view).numpy() for view in step.unlabelled)
    own, q = softmax(weak_l, axis=1), softmax(weak, axis=1)
    wanted[:] = 0.99 * wanted + 0.01 * own.mean(axis=0)
    recent[:] = [*recent[1:], q.mean(axis=0)]
    aligned = q * (wanted + 1e-6) / (np.mean(recent, axis=0) + 1e-6)
    aligned /= aligned.sum(axis=1, keepdims=True)
    mask = aligned.max(axis=1) >= 0.9 * own.max(axis=1).mean()
    supervised = [-log_softmax(z, axis=1)[range(4), range(4)].mean() for z in (weak_l, strong_l)]
    losses = -log_softmax(strong, axis=1)[range(6), aligned.argmax(axis=1)]
    return float(np.mean(supervised)), float((losses * mask).sum() / 6), float(mask.mean())


def test_adamatch_has_the_loss_of_its_paper_over_several_steps() -> None:
    method = build(node("adamatch"), "algorithm")
    models = method.build(Factory())
    for name in ("alignment", "weighting", "targets"):
        models[name].double()
    wanted, recent = np.full(5, 0.2), [np.full(5, 0.2)] * 128
    shares = set()
    for step in range(5):
        data = batch(step, 2)
        supervised, pseudo, share = adamatch_reference(method, models, data, wanted, recent)
        output = method.step(models, data, Progress(torch.tensor(2.0 * step), 16))
        factor = (1 - np.cos(np.pi * min(1, step / 4))) / 2  # a cosine over the first half
        assert output.terms["supervised"].item() == pytest.approx(supervised, rel=1e-6)
        assert output.terms["pseudo_label"].item() == pytest.approx(pseudo, rel=1e-6)
        assert output.losses["main"].item() == pytest.approx(supervised + factor * pseudo, rel=1e-6)
        shares.add(share)
    assert len(shares) > 1, "the threshold decides somewhere"


def test_adamatch_draws_labelled_logits_between_those_of_two_passes() -> None:
    method = build(node("adamatch"), "algorithm")
    student, data = Shifting(), batch(0, 2)
    models = {**method.build(Factory()), "student": student}
    models["alignment"].double()
    seen = []
    models["targets"].register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    for _ in range(50):
        method.step(models, data, Progress(torch.tensor(0.0), 16))
    base = student.linear(data.labelled[0])
    drawn = torch.stack([(predictions.labelled - base)[:, 0] for predictions in seen])
    # Labelled images alone are 8, and all are 20.
    assert drawn.min().item() == pytest.approx(0.8, abs=0.05)
    assert drawn.max().item() == pytest.approx(2.0, abs=0.05)
    assert drawn.std(dim=1).min() > 0.01, "each logit is drawn for itself"
    torch.testing.assert_close(seen[0].labelled[:, 1:], base[:, 1:])
    torch.testing.assert_close(seen[0].strong[:, 0], student.linear(data.unlabelled[1])[:, 0] + 2.0)


def test_the_fairness_of_freematch_is_added_to_the_loss() -> None:
    method = build(node("freematch"), "algorithm")
    models = method.build(Factory())
    for name in ("weighting", "targets", "extra"):
        models[name].double()
    output = method.step(models, batch(0, 1), Progress(torch.tensor(0.0), 16))
    terms = {name: value.item() for name, value in output.terms.items()}
    assert terms["fairness"] < 0
    expected = terms["supervised"] + terms["pseudo_label"] + 0.01 * terms["fairness"]
    assert output.losses["main"].item() == pytest.approx(expected, rel=1e-6)
    assert method.trained == ("student",)


def test_dash_is_supervised_during_its_warm_up() -> None:
    method = build(node("dash", "algorithm.weighting.threshold.minimum=9"), "algorithm")
    models = method.build(Factory())
    losses = []
    for step in range(8):
        output = method.step(models, batch(step, 1), Progress(torch.tensor(float(step)), 100))
        losses.append(output.terms["pseudo_label"].item())
    assert losses[:5] == [0] * 5
    assert min(losses[5:]) > 0


def test_flexmatch_counts_the_unlabelled_images_of_the_data() -> None:
    """Of 20 training images, 6 are unlabelled: once all have a class, nothing holds the thresholds down."""
    factory = Factory()
    factory.spec = SPEC.__class__(1, 2, 2, 5, 20, num_unlabelled=6)
    method = build(node("flexmatch"), "algorithm")
    weighting = method.build(factory)["weighting"]
    sure = torch.tensor([[9.0, 0, 0, 0, 0]] * 6, dtype=torch.float64)
    weighting(predicted(sure))
    unsure = torch.tensor([[0.94, 0.06, 0, 0, 0]] * 6, dtype=torch.float64).clamp(min=1e-9).log()
    assert weighting(predicted(unsure)).tolist() == [0] * 6
