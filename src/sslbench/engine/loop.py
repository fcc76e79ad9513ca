"""The step loop: one order of events for every algorithm."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from sslbench.algorithms.base import Examined, Pictured, stages_of
from sslbench.core import Batch, Progress, StepOutput
from sslbench.engine.checkpoint import cpu_copy, save_checkpoint
from sslbench.engine.evaluation import evaluate
from sslbench.engine.examination import LabelledParts
from sslbench.engine.meter import StepMeter
from sslbench.engine.schedules import Schedule
from sslbench.engine.state import TrainingState, stage_ends
from sslbench.errors import DivergedError
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


def training_step(
    state: TrainingState, batch: Batch, progress: Progress, autocast: torch.dtype | None
) -> StepOutput:
    """One update of the trained modules, and of their rivals at the same time. Never waits for the device."""
    # Without the cache: it would hand the weight casts of a pass without gradient, which have none, to a
    # later pass that needs one.
    with torch.autocast(
        progress.step.device.type, dtype=autocast, enabled=autocast is not None, cache_enabled=False
    ):
        output = state.algorithm.step(state.models, batch, progress)
    for optimizer in state.optimizers:
        optimizer.zero_grad(set_to_none=True)
    if output.rivals:
        # A rival's loss reaches through the trained modules, and theirs through it: each gets its own alone.
        losses = [(state.plan.trained, output.loss), *(((n,), loss) for n, loss in output.rivals.items())]
        for names, loss in losses:
            torch.autograd.backward(loss, inputs=state.parameters_of(*names), retain_graph=True)
    else:
        torch.autograd.backward(output.loss)
    for optimizer in state.optimizers:
        optimizer.step()
    state.algorithm.after_step(state.models, progress)
    return output


def evaluate_all(state: TrainingState, data: LabelledParts, end_of_stage: bool) -> dict[str, float]:
    """Evaluate every predictor and update the score with the first; returns the metrics to log.

    At the end of a stage the method's own numbers come on top.
    """
    metrics: dict[str, float] = {}
    best = False
    for position, name in enumerate(state.plan.predictors):
        model = state.models[name]
        on_valid, on_test = evaluate(model, data.valid), evaluate(model, data.test)
        if not math.isfinite(on_valid.loss):  # the last update broke the weights, after its loss was fine
            raise DivergedError(
                f"the weights of '{name}' became NaN or infinite by step {state.step}: lower optimizer.lr"
            )
        for part, evaluation in (("val", on_valid), ("test", on_test)):
            if len(state.plan.predictors) > 1:
                metrics[f"{part}/{name}_acc"] = evaluation.acc
            if position == 0:
                metrics.update({f"{part}/{key}": value for key, value in evaluation.metrics.items()})
        if position == 0:
            score = state.score
            score.test_history.append(on_test.acc)
            best = on_valid.acc >= score.val_acc_best
            if best:
                score.val_acc_best, score.step_best = on_valid.acc, state.step
                score.test_acc, score.test_ece = on_test.acc, on_test.ece
                score.test_calibration = {k: list(v) for k, v in vars(on_test.calibration).items()}
                score.best_weights = cpu_copy(model)
    if end_of_stage and isinstance(state.algorithm, Examined):
        metrics |= state.algorithm.examine(state.models, state.stage, data)
    if best:
        state.score.metrics_best = metrics
    state.score.metrics_last = metrics
    return metrics


def _show_pictures(state: TrainingState, tracker: Tracker) -> None:
    if isinstance(state.algorithm, Pictured):
        for name, picture in state.algorithm.pictures(state.models).items():
            tracker.show(state.step, name, picture.cpu().numpy())


def train(
    state: TrainingState,
    plan: Plan,
    schedule: Schedule,
    data: LabelledParts,
    tracker: Tracker,
    clock: Callable[[], float] = time.perf_counter,
) -> None:
    """Train from `state` to the end of `plan`, in place, stage after stage.

    Raises:
        DivergedError: a loss was NaN or infinite; what was logged and saved before stays.
    """
    ends = stage_ends(stages_of(state.algorithm), plan.steps)
    for model in state.models.values():
        model.train()
    while state.step < plan.steps:
        stage = next(position for position, end in enumerate(ends) if state.step < end)
        if stage != state.stage:
            state.begin_stage(stage, data.visible)
        start = ends[stage - 1] if stage else 0
        _train_stage(state, plan, schedule, data, tracker, clock, start, ends[stage])


def _train_stage(
    state: TrainingState,
    plan: Plan,
    schedule: Schedule,
    data: LabelledParts,
    tracker: Tracker,
    clock: Callable[[], float],
    start: int,
    end: int,
) -> None:
    """From `state` to the end of its stage, which takes the steps from `start` to `end` of the run."""
    device = state.batches.device
    meter = StepMeter(device, start)
    step_on_device = torch.tensor(float(state.step - start), device=device)
    progress = Progress(step_on_device, end - start, state.stage)
    started, first_step = clock(), state.step
    while state.step < end:
        factor = schedule(state.step - start, end - start)
        for optimizer in state.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor
        output = training_step(state, state.batches.next(), progress, plan.autocast)
        meter.add(output, step_on_device)
        del output  # with rivals it still holds the graph, which must not live on beside the next step's
        step_on_device += 1
        state.step += 1
        state.images_seen += state.batches.images_per_step
        tracker.advance(state.step)

        at_end = state.step == end
        look_up = at_end or state.step % plan.eval_every == 0
        if not look_up and state.step % plan.log_every:
            continue
        metrics = meter.read()
        seconds = clock() - started
        state.score.train_seconds += seconds
        metrics |= {
            "images_seen": state.images_seen,
            "train/lr": state.optimizers[0].param_groups[0]["lr"],
            "time/train_seconds": state.score.train_seconds,
            "time/steps_per_second": (state.step - first_step) / seconds,
        }
        if look_up:
            metrics |= evaluate_all(state, data, end_of_stage=at_end)
        tracker.log(state.step, metrics)
        if look_up:
            _show_pictures(state, tracker)
            save_checkpoint(plan.checkpoint, state.state_dict())
        started, first_step = clock(), state.step
