"""Steps of several updates: each output moves its optimizers before the next is asked for."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from helpers.look_ahead import LookAhead
from helpers.small_training import Rig, sum_of
from helpers.stepping import run_until
from helpers.tape import Tape
from sslbench.config.schema import Settings
from sslbench.core import Average, Batch, Progress, StepOutput, Views
from sslbench.engine import loop
from sslbench.engine.step import WARM_UP, CapturedSteps, NextStep, eager_steps, set_rates, training_step
from sslbench.errors import DivergedError, UserError
from sslbench.run.train import run
from sslbench.rundir.checkpoint import load_checkpoint

MakeSettings = Callable[..., Settings]

LR, MOMENTUM, DECAY = 0.25, 0.5, 0.75
FUSED = partial(torch.optim.SGD, lr=LR, momentum=MOMENTUM, fused=True)


def linear(weights: Mapping[str, np.ndarray], images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1) @ weights["1.weight"].T + weights["1.bias"]


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: np.ndarray = powers / powers.sum(axis=1, keepdims=True)
    return probabilities


def loss_and_gradients(
    weights: Mapping[str, np.ndarray], images: np.ndarray, targets: np.ndarray
) -> tuple[float, dict[str, np.ndarray]]:
    """The mean cross-entropy of a linear model, by its formulas."""
    found = softmax(linear(weights, images))
    slope = (found - targets) / len(images)
    loss = float(-(targets * np.log(found)).sum(axis=1).mean())
    return loss, {"1.weight": slope.T @ images.reshape(len(images), -1), "1.bias": slope.sum(axis=0)}


class Reference:
    """The steps of `LookAhead` in NumPy, with float64 and an SGD of its own."""

    def __init__(self, models: Mapping[str, nn.Module]) -> None:
        self.weights = {
            name: {key: value.double().numpy().copy() for key, value in model.state_dict().items()}
            for name, model in models.items()
        }
        self.momentum: dict[str, dict[str, np.ndarray]] = {}

    def move(self, name: str, gradients: Mapping[str, np.ndarray]) -> None:
        weights, momentum = self.weights[name], self.momentum.get(name, {})
        self.momentum[name] = {key: MOMENTUM * momentum.get(key, 0) + g for key, g in gradients.items()}
        for key, value in self.momentum[name].items():
            weights[key] -= LR * value

    def step(self, batch: Batch, number: int) -> dict[str, float]:
        labelled, unlabelled = batch.labelled[0].numpy(), batch.unlabelled[0].numpy()
        targets = np.eye(2)[batch.targets.numpy()]
        student, teacher = self.weights["student"], self.weights["teacher"]
        before, _ = loss_and_gradients(student, labelled, targets)
        pseudo_labels = np.eye(2)[linear(teacher, unlabelled).argmax(axis=1)]
        pseudo, gradients = loss_and_gradients(student, unlabelled, pseudo_labels)
        self.move("student", gradients)
        after, _ = loss_and_gradients(student, labelled, targets)
        supervised, of_labels = loss_and_gradients(teacher, labelled, targets)
        own, of_feedback = loss_and_gradients(teacher, unlabelled, pseudo_labels)
        self.move("teacher", {key: g + (before - after) * of_feedback[key] for key, g in of_labels.items()})
        decay = min(1 - 1 / (number + 1), DECAY)
        for key, value in self.weights["average"].items():
            value[...] = decay * value + (1 - decay) * student[key]
        feedback = (before - after) * own
        terms = {"pseudo": pseudo, "supervised": supervised, "feedback": feedback}
        return {
            **terms,
            "before": before,
            "after": after,
            "student": pseudo,
            "teacher": supervised + feedback,
        }


def test_a_look_ahead_is_that_of_a_reference(tmp_path: Path) -> None:
    rig = Rig(tmp_path, LookAhead(), partial(torch.optim.SGD, lr=LR, momentum=MOMENTUM))
    reference = Reference(rig.models)
    for number in range(6):
        batch = rig.state.batches.next()
        output = training_step(rig.state, batch, Progress(torch.tensor(float(number)), 6), None)
        expected = reference.step(batch, number)
        found = {**output.losses, **output.terms, **output.monitors}
        assert {key: value.item() for key, value in found.items()} == pytest.approx(
            expected, rel=1e-4, abs=1e-6
        )
        assert abs(expected["feedback"]) > 1e-4, "else the look-ahead shows nothing"
    for name, weights in reference.weights.items():
        for key, value in rig.models[name].state_dict().items():
            np.testing.assert_allclose(
                value.numpy(), weights[key], rtol=1e-4, atol=1e-5, err_msg=f"{name} {key}"
            )


def carried_out(
    tmp_path: Path, make: Callable[[Rig, Progress], NextStep], steps: int = 12
) -> tuple[list[dict[str, float]], dict[str, dict[str, Tensor]]]:
    rig = Rig(tmp_path, LookAhead(), FUSED)
    next_step = make(rig, Progress(torch.zeros(()), steps))
    means = []
    for step in range(steps):
        set_rates(rig.state.param_groups, 1 - step / steps)
        next_step()
        means.append(rig.state.meter.means())
        rig.state.meter.clear()
    return means, {name: dict(model.state_dict()) for name, model in rig.models.items()}


def test_captured_steps_have_the_losses_of_eager_ones(tmp_path: Path) -> None:
    tape = Tape()
    eager = carried_out(tmp_path, lambda rig, progress: eager_steps(rig.state, progress, None))
    captured = carried_out(tmp_path, lambda rig, progress: CapturedSteps(rig.state, progress, None, tape))
    assert (tape.recorded, tape.replayed) == (1, 12 - WARM_UP)
    for one, other in zip(captured[0], eager[0], strict=True):
        assert one == pytest.approx(other, rel=1e-4, abs=1e-6)
    torch.testing.assert_close(captured[1], eager[1], rtol=1e-4, atol=1e-5)
    assert len({point["train/feedback"] for point in captured[0]}) == 12, "each step has its own"


@pytest.mark.parametrize("graph", ["false", "true"])
def test_a_run_goes_on_bit_for_bit(
    graph: str, settings_of: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [
        "steps=16",
        "eval_every=6",
        "log_every=2",
        "checkpoint_every=5",
        f"graph={graph}",
        "model.dropout=0.1",
    ]
    monkeypatch.setattr(loop, "CudaGraphs", Tape)
    monkeypatch.setattr("sslbench.run.train.check_fast_paths", lambda *_: None)
    node = {"_target_": f"{LookAhead.__module__}.LookAhead"}
    whole, broken = (
        replace(settings_of(*words, f"run_dir={tmp_path / folder}"), algorithm=node)
        for folder in ("whole", "broken")
    )
    expected = run(whole)
    run_until(broken, 9, monkeypatch)
    assert run(broken)["metrics_last"] == expected["metrics_last"]
    saved = [load_checkpoint(tmp_path / folder / "checkpoint" / "last.pt") for folder in ("whole", "broken")]
    for part in ("models", "optimizers", "batches", "rng_state"):
        torch.testing.assert_close(saved[0][part], saved[1][part], rtol=0, atol=0)
    assert set(saved[0]["optimizers"]) == {"student", "teacher"}


def test_divergence_names_the_term_of_a_later_update(tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match=r"'feedback' became NaN or infinite at step 5:"):
        Rig(tmp_path, LookAhead(bad_step=5)).train(steps=9)


def test_autocast_is_on_in_each_part_of_a_step_and_off_between(tmp_path: Path) -> None:
    algorithm, between = LookAhead(), []

    class Watched(torch.optim.SGD):
        def step(self, closure: object = None) -> None:
            between.append(torch.is_autocast_enabled("cpu"))
            super().step()

    rig = Rig(tmp_path, algorithm, partial(Watched, lr=0.1))
    training_step(rig.state, rig.state.batches.next(), Progress(torch.zeros(()), 9), torch.bfloat16)
    assert algorithm.autocast == [True, True]
    assert between == [False, False]


class Turns:
    """Moves one of two models in each update, by the sum of its weights."""

    views = Views(("weak",))
    predictors = ("one",)

    def __init__(self, *order: str) -> None:
        self.trained = {"one": ("one",), "two": ("two",)}
        self._order = order

    def step(self, models: Mapping[str, nn.Module], *_: object) -> Iterator[StepOutput]:
        for name in self._order:
            # The other model's weights take part, and must not move.
            yield StepOutput({name: sum_of(models["one"]) + sum_of(models["two"])})


@pytest.mark.parametrize(("order", "moves"), [("one", (1, 0)), ("one two", (1, 1)), ("two one two", (1, 2))])
def test_only_the_optimizers_of_an_output_move(tmp_path: Path, order: str, moves: tuple[int, int]) -> None:
    rig = Rig(tmp_path, Turns(*order.split()), partial(torch.optim.SGD, lr=0.5))
    before = copy.deepcopy(rig.models)
    training_step(rig.state, rig.state.batches.next(), Progress(torch.zeros(()), 9), None)
    for name, count in zip(("one", "two"), moves, strict=True):
        for start, end in zip(before[name].parameters(), rig.models[name].parameters(), strict=True):
            torch.testing.assert_close(end, start - 0.5 * count)


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ("", r"^algorithm: Turns\.step gave no loss$"),
        ("three", r"^algorithm: Turns\.step has a loss for the optimizer 'three', but there are one, two$"),
    ],
)
def test_a_step_without_a_loss_for_an_optimizer(tmp_path: Path, order: str, message: str) -> None:
    rig = Rig(tmp_path, Turns(*order.split()))
    with pytest.raises(UserError, match=message):
        training_step(rig.state, rig.state.batches.next(), Progress(torch.zeros(()), 9), None)


def test_averages_move_after_the_last_update(tmp_path: Path) -> None:
    algorithm = Turns("one", "one")
    algorithm.averages = {"two": Average("one", 0.5)}
    rig = Rig(tmp_path, algorithm)
    training_step(rig.state, rig.state.batches.next(), Progress(torch.zeros(()), 9), None)
    torch.testing.assert_close(rig.models["two"].state_dict(), rig.models["one"].state_dict(), rtol=0, atol=0)
