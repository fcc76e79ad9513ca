"""The step loop: one order of events for every algorithm."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch

from sslbench.algorithms.protocol import Examined, Pictured, stages_of
from sslbench.core import Progress
from sslbench.engine.evaluation import Evaluation, evaluate
from sslbench.engine.examination import LabelledParts
from sslbench.engine.profiling import profiled
from sslbench.engine.schedules import Schedule
from sslbench.engine.state import TrainingState, stage_ends
from sslbench.engine.step import CudaGraphs, Replayed, Stepper, one_by_one, set_rates
from sslbench.errors import DivergedError
from sslbench.rundir.checkpoint import Checkpoints
from sslbench.rundir.weights import cpu_copy
from sslbench.system.signals import PendingStop, StopRequested, signals_deferred
from sslbench.tracking.tracker import Tracker


@dataclass(frozen=True)
class Plan:
    """How long a run is and how often it looks up.

    Attributes:
        steps: of the whole run.
        eval_every: steps between evaluations; the last step is always evaluated.
        log_every: steps between readings of the training losses.
        autocast: the type of the forward passes, or None for float32.
        checkpoints: where the state of the run is saved, and how often.
        graph: whether steps are recorded and replayed as CUDA graphs.
        profile: where a profile of some steps is written; None for none.
    """

    steps: int
    eval_every: int
    log_every: int
    autocast: torch.dtype | None
    checkpoints: Checkpoints
    graph: bool = False
    profile: Path | None = None


def evaluate_all(
    state: TrainingState,
    data: LabelledParts,
    end_of_stage: bool,
    pause: Callable[[], object] = lambda: None,
) -> dict[str, float]:
    """Evaluate every predictor and update the score with the first; returns the metrics to log.

    At the end of a stage the method's own numbers come on top. Until all are evaluated, nothing is changed.
    """
    evaluations: dict[str, tuple[Evaluation, Evaluation]] = {}
    for name in state.plan.predictors:
        model = state.models[name]
        evaluations[name] = evaluate(model, data.valid, pause=pause), evaluate(model, data.test, pause=pause)
        # The last update may have broken the weights after its loss was fine.
        if not math.isfinite(evaluations[name][0].loss):
            raise DivergedError(
                f"the weights of '{name}' became NaN or infinite by step {state.step}: lower optimizer.lr"
            )
    first = state.plan.predictors[0]
    metrics: dict[str, float] = {}
    for position, part in enumerate(("val", "test")):
        if len(evaluations) > 1:
            metrics |= {f"{part}/{name}_acc": pair[position].acc for name, pair in evaluations.items()}
        metrics |= {f"{part}/{key}": value for key, value in evaluations[first][position].metrics.items()}
    best = _score(state, *evaluations[first])
    if end_of_stage and isinstance(state.algorithm, Examined):
        numbers = state.algorithm.examine(state.models, state.stage, data)
        metrics |= {name: float(value) for name, value in numbers.items()}  # NumPy's have no place in a file
    if best:
        state.score.metrics_best = metrics
    state.score.metrics_last = metrics
    return metrics


def _score(state: TrainingState, on_valid: Evaluation, on_test: Evaluation) -> bool:
    """Take in an evaluation of the first predictor; returns whether it is the best so far."""
    score = state.score
    score.test_history.append(on_test.acc)
    best = on_valid.acc >= score.val_acc_best
    if best:
        score.val_acc_best, score.step_best = on_valid.acc, state.step
        score.test_acc, score.test_ece = on_test.acc, on_test.ece
        score.test_calibration = {k: list(v) for k, v in vars(on_test.calibration).items()}
        score.best_weights = cpu_copy(state.models[state.plan.predictors[0]])
    return best


def train(
    state: TrainingState,
    plan: Plan,
    schedule: Schedule,
    data: LabelledParts,
    tracker: Tracker,
    clock: Callable[[], float] = time.perf_counter,
) -> None:
    """Train from `state` to the end of `plan`, in place, stage after stage.

    A request to end (`sslbench.system.signals`) is answered after the step or the pass that it came in: a
    checkpoint is written, and then the request is handed on.

    Raises:
        DivergedError: a loss was NaN or infinite; what was logged and saved before stays.
        OSError: a checkpoint or a log point could not be written.
    """
    ends = stage_ends(stages_of(state.algorithm), plan.steps)
    for model in state.models.values():
        model.train()
    with signals_deferred() as request, profiled(plan.profile, state.batches.device) as stepped:
        loop = _Loop(state, plan, schedule, data, tracker, clock, request, stepped)
        for stage in range(state.stage, len(ends)):
            if stage != state.stage:
                state.begin_stage(stage, data.visible)
            loop.run(ends[stage - 1] if stage else 0, ends[stage])


@final
class _Loop:
    """The loop over one stage after the other; the arguments are those of `train`."""

    def __init__(
        self,
        state: TrainingState,
        plan: Plan,
        schedule: Schedule,
        data: LabelledParts,
        tracker: Tracker,
        clock: Callable[[], float],
        request: PendingStop,
        stepped: Callable[[], None],
    ) -> None:
        self._state, self._plan, self._schedule = state, plan, schedule
        self._data, self._tracker, self._clock, self._request = data, tracker, clock, request
        self._stepped = stepped
        self._recorder = CudaGraphs() if plan.graph else None
        self._unsaved = False

    def run(self, start: int, end: int) -> None:
        """Train from the state to the end of its stage, which takes the steps from `start` to `end`.

        What is due after a step is done before the next one and not at its end, so that a run which was
        stopped in between does it when it goes on.
        """
        state, plan = self._state, self._plan
        device = state.batches.device
        step_on_device = torch.tensor(float(state.step - start), device=device)
        progress = Progress(step_on_device, end - start, state.stage)
        if self._recorder is not None:
            take: Stepper = Replayed(state, progress, plan.autocast, self._recorder)
        else:
            take = one_by_one(state, progress, plan.autocast)
        started = self._clock()
        while True:
            look_up = state.step == end or state.step % plan.eval_every == 0
            log = (look_up or state.step % plan.log_every == 0) and state.logged[0] < state.step
            save = self._unsaved and (state.step == plan.steps or plan.checkpoints.due(state.step))
            if log or save or self._request:
                if device.type == "cuda":
                    torch.cuda.synchronize(device)  # or steps in its queue would not be counted as training
                state.score.train_seconds += self._clock() - started
                if log:
                    self._log(look_up, start, end)
                if save or self._request:
                    self._save()
                self._request.check()
                started = self._clock()
            if state.step == end:
                return
            set_rates(state.optimizers, self._schedule(state.step - start, end - start))
            take()
            self._count()

    def _count(self) -> None:
        state = self._state
        state.meter.count += 1
        state.step += 1
        state.images_seen += state.batches.images_per_step
        self._unsaved = True
        self._stepped()
        self._tracker.advance(state.step)

    def _log(self, look_up: bool, start: int, end: int) -> None:
        """Log what the steps since the last log point have shown, and, if `look_up`, an evaluation."""
        state = self._state
        step_before, seconds_before = state.logged
        seconds = state.score.train_seconds
        metrics = state.meter.means() | {
            "images_seen": state.images_seen,
            "train/lr": state.optimizers[0].param_groups[0]["initial_lr"]
            * self._schedule(state.step - 1 - start, end - start),
            "time/train_seconds": seconds,
            "time/steps_per_second": (state.step - step_before) / (seconds - seconds_before),
        }
        if look_up:
            try:
                metrics |= evaluate_all(state, self._data, state.step == end, self._request.check)
            except StopRequested:  # before anything has changed: it is evaluated when the run goes on
                self._save()
                raise
        self._tracker.log(state.step, metrics)
        state.history.append({"step": state.step, **metrics})
        state.meter.clear()
        if look_up and isinstance(state.algorithm, Pictured):
            for name, picture in state.algorithm.pictures(state.models).items():
                self._tracker.show(state.step, name, picture.cpu().numpy())
        self._unsaved = True

    def _save(self) -> None:
        """Write a checkpoint if there is something new; never after a loss that was not finite."""
        if self._unsaved:
            self._state.meter.check()
            self._plan.checkpoints.save(self._state.state_dict())
            self._unsaved = False
