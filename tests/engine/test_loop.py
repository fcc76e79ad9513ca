from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sslbench.algorithms.base import Algorithm
from sslbench.core import Batch, ModelFactory, Progress, StepOutput, Views
from sslbench.data.batches import BatchSource
from sslbench.data.splits import make_split
from sslbench.data.views import DeviceImages, ImageTransform
from sslbench.engine import loop
from sslbench.engine.checkpoint import load_checkpoint
from sslbench.engine.evaluation import Evaluation, EvaluationSet
from sslbench.engine.loop import Plan, Score, TrainingState, train
from sslbench.engine.schedules import Schedule, constant
from sslbench.errors import DivergedError
from sslbench.tracking.base import RunInfo

CPU = torch.device("cpu")


class Slope:
    """Its loss is the sum of the parameters, so that each update is the learning rate and nothing else."""

    views = Views(("weak",), ("weak",))
    trained = ("student",)

    def __init__(self, predictors: tuple[str, ...] = ("student",), bad_step: int | None = None) -> None:
        self.predictors = predictors
        self.bad_step = bad_step
        self.on_step: Callable[[], None] = lambda: None
        self.seen_steps: list[float] = []
        self.weights_after_step: list[float] = []
        self.autocast: list[tuple[bool, bool]] = []

    def build(self, new_model: ModelFactory) -> dict[str, nn.Module]:
        return {"student": new_model()}

    def step(self, models: Mapping[str, nn.Module], batch: Batch, progress: Progress) -> StepOutput:
        self.on_step()
        assert all(model.training for model in models.values()), "evaluation left its mode behind"
        self.seen_steps.append(progress.step.item())
        self.autocast.append((torch.is_autocast_enabled("cpu"), torch.is_autocast_cache_enabled()))
        loss = torch.stack([parameter.sum() for parameter in models["student"].parameters()]).sum()
        if len(self.seen_steps) == self.bad_step:
            loss = loss * math.nan
        return StepOutput(loss, {"slope": loss})

    def after_step(self, models: Mapping[str, nn.Module], progress: Progress) -> None:
        self.weights_after_step.append(first_weight(models["student"]))


class Recorder:
    """A tracker that keeps everything."""

    def __init__(self) -> None:
        self.advanced: list[int] = []
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.stop_at: int | None = None

    def start(self, run: RunInfo) -> None:
        raise AssertionError("the loop neither starts nor closes trackers")

    def advance(self, step: int) -> None:
        self.advanced.append(step)
        if step == self.stop_at:
            raise KeyboardInterrupt

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self.logged.append((step, dict(metrics)))

    def close(self, status: str, result: Mapping[str, object] | None) -> None:
        raise AssertionError("the loop neither starts nor closes trackers")

    def curve(self, key: str) -> dict[int, float]:
        return {step: metrics[key] for step, metrics in self.logged if key in metrics}


def first_weight(model: nn.Module) -> float:
    return next(model.parameters()).flatten()[0].item()


class Stage:
    """Everything that `train` needs, small."""

    def __init__(self, folder: Path, algorithm: Slope | None = None) -> None:
        self.algorithm = algorithm or Slope()
        random = np.random.default_rng(0)
        targets = np.arange(60) % 2
        pixels = random.integers(0, 256, (60, 2, 2, 1), dtype=np.uint8)
        images = DeviceImages(pixels, ImageTransform([0.0], [1.0], []), CPU)
        split = make_split(targets, 2, 4, 20, 0)
        classes = torch.from_numpy(targets)
        valid, held_out = torch.from_numpy(split.valid), torch.arange(30)
        self.valid = EvaluationSet(images, valid, classes[valid], 2)
        self.test = EvaluationSet(images, held_out, classes[held_out], 2)
        torch.manual_seed(0)
        self.models: dict[str, nn.Module] = {
            name: nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
            for name in {"student", *self.algorithm.predictors}
        }
        self.model = self.models["student"]
        self.optimizer: torch.optim.Optimizer = torch.optim.SGD(self.model.parameters(), lr=0.25)
        batches = BatchSource(images, classes, split, self.algorithm.views, 3, 5, 0, CPU)
        as_algorithm: Algorithm = self.algorithm
        self.state = TrainingState(as_algorithm, self.models, self.optimizer, batches)
        self.recorder = Recorder()
        self.checkpoint = folder / "checkpoint" / "last.pt"

    def train(
        self,
        steps: int = 10,
        eval_every: int = 4,
        log_every: int = 3,
        schedule: Schedule = constant,
        autocast: torch.dtype | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        plan = Plan(steps, eval_every, log_every, autocast, self.checkpoint)
        ticks = iter(range(10_000))
        train(
            self.state,
            plan,
            schedule,
            self.valid,
            self.test,
            self.recorder,
            CPU,
            clock or (lambda: float(next(ticks))),
        )


class Evaluations:
    """Stands in for `evaluate` with numbers told beforehand, by set."""

    def __init__(self, stage: Stage, valid: list[float], test: list[float]) -> None:
        self.stage = stage
        self.coming = {id(stage.valid): iter(valid), id(stage.test): iter(test)}
        self.weights: list[float] = []

    def __call__(self, model: nn.Module, data: EvaluationSet) -> Evaluation:
        acc = next(self.coming[id(data)])
        if data is self.stage.valid:
            self.weights.append(first_weight(model))
        return Evaluation(acc, ece=1 - acc, loss=2 * acc)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def test_evaluates_every_so_many_steps_and_at_the_end(stage: Stage) -> None:
    stage.train(steps=10, eval_every=4, log_every=3)
    assert list(stage.recorder.curve("val/acc")) == [4, 8, 10]
    assert list(stage.recorder.curve("test/acc")) == [4, 8, 10]
    assert list(stage.recorder.curve("train/loss")) == [3, 4, 6, 8, 9, 10]
    assert stage.recorder.advanced == list(range(1, 11))
    assert stage.state.step == 10
    assert len(stage.state.score.test_history) == 3


def test_an_end_that_is_due_anyway_is_evaluated_once(stage: Stage) -> None:
    stage.train(steps=8, eval_every=4, log_every=4)
    assert [step for step, _ in stage.recorder.logged] == [4, 8]
    assert len(stage.state.score.test_history) == 2


def test_a_run_shorter_than_any_interval_is_evaluated(stage: Stage) -> None:
    stage.train(steps=2, eval_every=100, log_every=100)
    assert list(stage.recorder.curve("val/acc")) == [2]
    assert stage.checkpoint.exists()


def test_metrics_of_a_log_point(stage: Stage) -> None:
    stage.train(steps=4, eval_every=4, log_every=2)
    train_keys = {"train/loss", "train/slope", "train/lr"}
    other = {"images_seen", "time/train_seconds", "time/steps_per_second"}
    looked_up = {f"{part}/{key}" for part in ("val", "test") for key in ("acc", "ece", "loss")}
    assert set(stage.recorder.logged[0][1]) == train_keys | other
    assert set(stage.recorder.logged[1][1]) == train_keys | other | looked_up
    assert stage.recorder.curve("images_seen") == {2: 16, 4: 32}


@pytest.mark.parametrize(
    ("valid", "best"),
    [
        ([0.5, 0.7, 0.6, 0.4, 0.3], 4),
        ([0.5, 0.7, 0.7, 0.4, 0.7], 10),  # the last of equals
        ([0.0, 0.0, 0.0, 0.0, 0.0], 10),
        ([0.9, 0.1, 0.1, 0.1, 0.1], 2),
    ],
)
@pytest.mark.parametrize("test", [[0.1, 0.2, 0.3, 0.4, 0.5], [0.99, 0.2, 0.3, 0.98, 0.0]])
def test_validation_alone_chooses_the_step(
    stage: Stage, valid: list[float], best: int, test: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluations = Evaluations(stage, valid, test)
    monkeypatch.setattr(loop, "evaluate", evaluations)
    stage.train(steps=10, eval_every=2)
    score, place = stage.state.score, best // 2 - 1
    assert score.step_best == best
    assert score.val_acc_best == valid[place]
    assert score.test_acc == test[place]
    assert score.test_ece == 1 - test[place]
    assert score.test_history == test
    # The weights of that step, not a reference to a network that trained on.
    assert score.best_weights["1.weight"].flatten()[0].item() == evaluations.weights[place]
    assert len(set(evaluations.weights)) == 5


@pytest.mark.parametrize(
    ("history", "median"),
    [
        ([0.5], 0.5),
        ([0.1, 0.4], 0.25),
        ([0.3, 0.1, 0.2], 0.2),
        ([0.0] * 100 + [0.8] * 11 + [0.9] * 9, 0.8),
        ([1.0] * 5 + [i / 100 for i in range(20)], 0.095),
    ],
)
def test_median_of_the_last_twenty(history: list[float], median: float) -> None:
    assert Score(test_history=history).test_acc_median20 == pytest.approx(median)


def test_several_predictors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(tmp_path, Slope(predictors=("teacher", "student")))
    seen: list[tuple[bool, str]] = []
    accuracies = {"teacher": (0.6, 0.61), "student": (0.8, 0.81)}

    def evaluate(model: nn.Module, data: EvaluationSet) -> Evaluation:
        name = next(name for name, other in stage.models.items() if other is model)
        seen.append((data is stage.test, name))
        return Evaluation(accuracies[name][data is stage.test], 0.0, 0.0)

    monkeypatch.setattr(loop, "evaluate", evaluate)
    stage.train(steps=2)
    metrics = stage.recorder.logged[-1][1]
    assert len(seen) == len(set(seen)) == 4
    assert metrics["val/acc"] == metrics["val/teacher_acc"] == 0.6
    assert metrics["test/acc"] == metrics["test/teacher_acc"] == 0.61
    assert (metrics["val/student_acc"], metrics["test/student_acc"]) == (0.8, 0.81)
    assert stage.state.score.val_acc_best == 0.6
    assert stage.state.score.test_history == [0.61]
    teacher = stage.models["teacher"].state_dict()["1.weight"]
    assert torch.equal(stage.state.score.best_weights["1.weight"], teacher)


def halving(step: int, total: int) -> float:
    return 0.5**step


def test_learning_rate_follows_the_schedule(stage: Stage) -> None:
    asked: list[tuple[int, int]] = []

    def schedule(step: int, total: int) -> float:
        asked.append((step, total))
        return halving(step, total)

    start = first_weight(stage.model)
    stage.train(steps=6, eval_every=6, log_every=1, schedule=schedule)
    assert asked == [(step, 6) for step in range(6)]
    rates = [0.25 * 0.5**step for step in range(6)]
    # Every gradient is 1, so that the weights are the sum of the rates that were used.
    expected = start - np.cumsum(rates)
    assert stage.algorithm.weights_after_step == pytest.approx(expected.tolist(), abs=1e-6)
    assert list(stage.recorder.curve("train/lr").values()) == pytest.approx(rates)


def test_each_group_keeps_its_own_rate(stage: Stage) -> None:
    weight, bias = stage.model.parameters()
    stage.state.optimizer = torch.optim.SGD(
        [{"params": [weight], "lr": 0.5}, {"params": [bias], "lr": 0.125}]
    )
    before = weight[0, 0].item(), bias[0].item()
    stage.train(steps=2, schedule=halving)
    assert weight[0, 0].item() == pytest.approx(before[0] - 0.75)
    assert bias[0].item() == pytest.approx(before[1] - 0.1875)


def test_gradients_do_not_add_up(stage: Stage) -> None:
    stage.train(steps=3)
    for parameter in stage.model.parameters():
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, torch.ones_like(parameter))


def test_progress_counts_finished_steps(stage: Stage) -> None:
    stage.train(steps=5)
    assert stage.algorithm.seen_steps == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("autocast", "enabled"), [(None, False), (torch.bfloat16, True)])
def test_precision_of_the_forward_pass(stage: Stage, autocast: torch.dtype | None, enabled: bool) -> None:
    stage.train(steps=2, autocast=autocast)
    assert [on for on, _ in stage.algorithm.autocast] == [enabled, enabled]
    assert not enabled or not any(cached for _, cached in stage.algorithm.autocast)
    assert not torch.is_autocast_enabled("cpu")


def test_time_of_evaluations_and_checkpoints_is_not_training_time(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0

    def pass_time(seconds: float) -> None:
        nonlocal now
        now += seconds

    def evaluate(model: nn.Module, data: EvaluationSet) -> Evaluation:
        pass_time(100.0)
        return Evaluation(0.5, 0.5, 0.5)

    monkeypatch.setattr(loop, "evaluate", evaluate)
    monkeypatch.setattr(loop, "save_checkpoint", lambda path, state: pass_time(50.0))
    stage.algorithm.on_step = lambda: pass_time(0.25)
    stage.train(steps=10, eval_every=4, log_every=3, clock=lambda: now)
    assert stage.state.score.train_seconds == 2.5
    assert stage.recorder.curve("time/train_seconds") == {step: step / 4 for step in (3, 4, 6, 8, 9, 10)}
    assert set(stage.recorder.curve("time/steps_per_second").values()) == {4.0}


def test_divergence_is_told_before_it_is_evaluated(tmp_path: Path) -> None:
    stage = Stage(tmp_path, Slope(bad_step=6))
    with pytest.raises(DivergedError, match=r"'slope' became NaN or infinite at step 6:"):
        stage.train(steps=20, eval_every=4, log_every=100)
    assert [step for step, _ in stage.recorder.logged] == [4]
    assert load_checkpoint(stage.checkpoint)["step"] == 4
    assert all(value.isfinite().all() for value in stage.state.score.best_weights.values())


def test_checkpoint_is_that_of_the_last_evaluation_and_goes_on_from_there(tmp_path: Path) -> None:
    whole = Stage(tmp_path / "whole")
    broken, resumed = Stage(tmp_path / "broken"), Stage(tmp_path / "broken")
    for stage in (whole, broken, resumed):
        stage.checkpoint.parent.parent.mkdir(exist_ok=True)
        # Momentum, so that the optimizer has a state to lose.
        stage.state.optimizer = torch.optim.SGD(stage.model.parameters(), lr=0.25, momentum=0.9)
    whole.train(steps=10, schedule=halving)

    broken.recorder.stop_at = 6
    with pytest.raises(KeyboardInterrupt):
        broken.train(steps=10, schedule=halving)
    saved = load_checkpoint(broken.checkpoint)
    assert saved["step"] == 4
    assert len(saved["score"]["test_history"]) == 1

    with torch.no_grad():
        for parameter in resumed.model.parameters():
            parameter.zero_()
    resumed.state.load_state_dict(saved)
    resumed.train(steps=10, schedule=halving)
    assert resumed.recorder.advanced == [5, 6, 7, 8, 9, 10]
    assert resumed.algorithm.seen_steps == [4, 5, 6, 7, 8, 9]
    assert resumed.algorithm.weights_after_step == whole.algorithm.weights_after_step[4:]
    assert resumed.recorder.curve("train/lr") == {
        step: rate for step, rate in whole.recorder.curve("train/lr").items() if step > 4
    }
    assert resumed.state.score.test_history == whole.state.score.test_history
    assert load_checkpoint(resumed.checkpoint)["step"] == 10


def test_a_finished_state_is_left_alone(stage: Stage) -> None:
    stage.train(steps=4)
    stage.train(steps=4)
    assert stage.recorder.advanced == [1, 2, 3, 4]
    assert len(stage.state.score.test_history) == 1
