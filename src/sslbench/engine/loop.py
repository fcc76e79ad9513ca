"""The step loop: one order of events for every algorithm."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sslbench.algorithms.base import Algorithm
from sslbench.core import Batch, Progress, StepOutput
from sslbench.data.batches import BatchSource
from sslbench.engine.checkpoint import cpu_copy, save_checkpoint
from sslbench.engine.evaluation import EvaluationSet, evaluate
from sslbench.engine.meter import StepMeter
from sslbench.engine.schedules import Schedule
from sslbench.errors import DivergedError, UserError
from sslbench.tracking.base import Tracker


@dataclass(frozen=True)
class Plan:
    """How long a run is and how often it looks up.

    Attributes:
        steps: of the whole run.
        eval_every: steps between evaluations; the last step is always evaluated.
        log_every: steps between readings of the training losses.
        autocast: the type of the forward passes, or None for float32.
        checkpoint: where the state of the run is saved after each evaluation.
    """

    steps: int
    eval_every: int
    log_every: int
    autocast: torch.dtype | None
    checkpoint: Path


@dataclass
class Score:
    """What the evaluations have shown so far. Accuracies and calibration errors are in [0, 1].

    The best step is the last with the highest validation accuracy: a tie gives no reason to prefer weights
    that are trained less. Test numbers never choose.
    """

    val_acc_best: float = -1.0
    step_best: int = 0
    test_acc: float = 0.0
    test_ece: float = 0.0
    test_history: list[float] = field(default_factory=list)
    train_seconds: float = 0.0
    metrics_best: dict[str, float] = field(default_factory=dict)
    best_weights: dict[str, Tensor] = field(default_factory=dict)

    @property
    def test_acc_median20(self) -> float:
        """Median of the last 20 evaluations on the test set (arXiv:1905.02249, section 4.1)."""
        return statistics.median(self.test_history[-20:])


@dataclass
class TrainingState:
    """Everything that changes while a run trains; what a checkpoint holds."""

    algorithm: Algorithm
    models: dict[str, nn.Module]
    optimizer: torch.optim.Optimizer
    batches: BatchSource
    step: int = 0
    score: Score = field(default_factory=Score)

    def state_dict(self) -> dict[str, Any]:
        """All of it, with the global random streams that dropout and perturbations draw from."""
        return {
            "step": self.step,
            "device": self.batches.device.type,
            "models": {name: model.state_dict() for name, model in self.models.items()},
            "optimizer": self.optimizer.state_dict(),
            "batches": self.batches.state_dict(),
            "score": vars(self.score),
            "chance": torch.get_rng_state(),
            "chance_cuda": torch.cuda.get_rng_state() if self.batches.device.type == "cuda" else None,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken.

        Raises:
            UserError: it was taken on another kind of device, whose random streams do not exist here.
        """
        if state["device"] != self.batches.device.type:
            raise UserError(
                f"the run's checkpoint was made on {state['device']}: set device={state['device']} to go on, "
                f"or choose another run_dir to start again on {self.batches.device.type}"
            )
        self.step = state["step"]
        for name, model in self.models.items():
            model.load_state_dict(state["models"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.batches.load_state_dict(state["batches"])
        self.score = Score(**state["score"])
        torch.set_rng_state(state["chance"])
        if state["chance_cuda"] is not None and self.batches.device.type == "cuda":
            torch.cuda.set_rng_state(state["chance_cuda"])


def training_step(
    state: TrainingState, batch: Batch, progress: Progress, autocast: torch.dtype | None
) -> StepOutput:
    """One update of the trained modules. Never waits for the device."""
    # Without the cache: it would hand the weight casts of a pass without gradient, which have none, to a
    # later pass that needs one.
    with torch.autocast(
        progress.step.device.type, dtype=autocast, enabled=autocast is not None, cache_enabled=False
    ):
        output = state.algorithm.step(state.models, batch, progress)
    state.optimizer.zero_grad(set_to_none=True)
    torch.autograd.backward(output.loss)
    state.optimizer.step()
    state.algorithm.after_step(state.models, progress)
    return output


def evaluate_all(state: TrainingState, valid: EvaluationSet, test: EvaluationSet) -> dict[str, float]:
    """Evaluate every predictor and update the score with the first; returns the metrics to log."""
    metrics: dict[str, float] = {}
    best = False
    for position, name in enumerate(state.algorithm.predictors):
        model = state.models[name]
        on_valid, on_test = evaluate(model, valid), evaluate(model, test)
        if not math.isfinite(on_valid.loss):  # the last update broke the weights, after its loss was fine
            raise DivergedError(
                f"the weights of '{name}' became NaN or infinite by step {state.step}: lower optimizer.lr"
            )
        for part, evaluation in (("val", on_valid), ("test", on_test)):
            if len(state.algorithm.predictors) > 1:
                metrics[f"{part}/{name}_acc"] = evaluation.acc
            if position == 0:
                metrics.update({f"{part}/{key}": value for key, value in vars(evaluation).items()})
        if position == 0:
            score = state.score
            score.test_history.append(on_test.acc)
            best = on_valid.acc >= score.val_acc_best
            if best:
                score.val_acc_best, score.step_best = on_valid.acc, state.step
                score.test_acc, score.test_ece = on_test.acc, on_test.ece
                score.best_weights = cpu_copy(model)
    if best:
        state.score.metrics_best = metrics
    return metrics


def train(
    state: TrainingState,
    plan: Plan,
    schedule: Schedule,
    valid: EvaluationSet,
    test: EvaluationSet,
    tracker: Tracker,
    device: torch.device,
    clock: Callable[[], float] = time.perf_counter,
) -> None:
    """Train from `state` to the end of `plan`, in place.

    Raises:
        DivergedError: a loss was NaN or infinite; what was logged and saved before stays.
    """
    for group in state.optimizer.param_groups:
        group.setdefault("initial_lr", group["lr"])  # a resumed optimizer brings its own
    meter = StepMeter(device)
    step_on_device = torch.tensor(float(state.step), device=device)
    progress = Progress(step_on_device, plan.steps)
    for model in state.models.values():
        model.train()
    started, first_step = clock(), state.step
    while state.step < plan.steps:
        factor = schedule(state.step, plan.steps)
        for group in state.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        output = training_step(state, state.batches.next(), progress, plan.autocast)
        meter.add(output, step_on_device)
        step_on_device += 1
        state.step += 1
        tracker.advance(state.step)

        at_end = state.step == plan.steps
        look_up = at_end or state.step % plan.eval_every == 0
        if not look_up and state.step % plan.log_every:
            continue
        metrics = meter.read()
        seconds = clock() - started
        state.score.train_seconds += seconds
        metrics |= {
            "images_seen": state.step * state.batches.images_per_step,
            "train/lr": state.optimizer.param_groups[0]["lr"],
            "time/train_seconds": state.score.train_seconds,
            "time/steps_per_second": (state.step - first_step) / seconds,
        }
        if look_up:
            metrics |= evaluate_all(state, valid, test)
        tracker.log(state.step, metrics)
        if look_up:
            save_checkpoint(plan.checkpoint, state.state_dict())
        started, first_step = clock(), state.step
