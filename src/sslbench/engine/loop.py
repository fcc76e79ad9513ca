"""The step loop: one order of events for every algorithm."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch

from sslbench.algorithms.protocol import Diagnosed, SampleImages, stages_of
from sslbench.core import Progress
from sslbench.engine.diagnostics import DiagnosticData
from sslbench.engine.evaluation import Evaluation, evaluate
from sslbench.engine.profiling import profiled
from sslbench.engine.schedules import Schedule
from sslbench.engine.state import TrainingState, stage_ends
from sslbench.engine.step import CapturedSteps, CudaGraphs, NextStep, Recorder, eager_steps, set_rates
from sslbench.errors import DivergedError
from sslbench.rundir.checkpoint import Checkpoints
from sslbench.rundir.weights import cpu_copy
from sslbench.system.signals import PendingStop, StopRequested, signals_deferred
from sslbench.tracking import Fanout


@dataclass(frozen=True)
class LoopOptions:
    """How long a run is, and how often it is interrupted to evaluate, log and save.

    Attributes:
        steps: of the whole run.
        eval_every: steps between evaluations; the last step of each stage is always evaluated.
        log_every: steps between readings of the training losses.
        autocast: the type of the forward passes, or None for float32.
        checkpoints: where the state of the run is saved, and how often.
        graph: whether steps are captured and replayed as CUDA graphs.
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
    data: DiagnosticData,
    end_of_stage: bool,
    pause: Callable[[], object] = lambda: None,
) -> dict[str, float]:
    """Evaluate every predictor and add the first to the stage's result; returns the metrics to log.

    At the end of a stage, the algorithm's diagnostics are among them. The state changes only once all are
    evaluated.
    """
    evaluations: dict[str, tuple[Evaluation, Evaluation]] = {}
    if state.average is not None:
        state.average.prepare(state.batches, pause)
    for name, model in state.predictors.items():
        evaluations[name] = evaluate(model, data.valid, pause=pause), evaluate(model, data.test, pause=pause)
        # The last update may have broken the weights after its loss was fine.
        if not math.isfinite(evaluations[name][0].loss):
            raise DivergedError(
                f"the weights of '{name}' became NaN or infinite by step {state.step}: lower optimizer.lr"
            )
    metrics: dict[str, float] = {}
    of_first = next(iter(evaluations.values()))
    for position, part in enumerate(("val", "test")):
        if len(evaluations) > 1:
            metrics |= {f"{part}/{name}_acc": pair[position].acc for name, pair in evaluations.items()}
        metrics |= {f"{part}/{key}": value for key, value in of_first[position].metrics.items()}
    best = _add_to_result(state, *of_first)
    if end_of_stage and isinstance(state.algorithm, Diagnosed):
        numbers = state.algorithm.diagnose(state.models, state.stage, data)
        metrics |= {name: float(value) for name, value in numbers.items()}  # JSON has no numbers of NumPy
    if best:
        state.result.metrics_best = metrics
    state.result.metrics_last = metrics
    return metrics


def _add_to_result(state: TrainingState, on_valid: Evaluation, on_test: Evaluation) -> bool:
    """Add an evaluation of the first predictor; returns whether it is the best so far."""
    result = state.result
    result.test_history.append(on_test.acc)
    best = on_valid.acc >= result.val_acc_best
    if best:
        result.val_acc_best, result.step_best = on_valid.acc, state.step
        result.test_acc, result.test_ece = on_test.acc, on_test.ece
        result.test_confusion = on_test.confusion
        result.test_calibration = {k: list(v) for k, v in vars(on_test.calibration).items()}
        result.best_weights = cpu_copy(next(iter(state.predictors.values())))
    return best


def train(
    state: TrainingState,
    options: LoopOptions,
    schedule: Schedule,
    data: DiagnosticData,
    tracker: Fanout,
    clock: Callable[[], float] = time.perf_counter,
) -> None:
    """Train from `state` to the last step, in place, stage after stage.

    A request to end (`sslbench.system.signals`) is answered after the step or the pass in which it came: a
    checkpoint is written, and then the request is raised.

    Raises:
        DivergedError: a loss was NaN or infinite; what was logged and saved before stays.
        OSError: a checkpoint or a log point could not be written.
    """
    ends = stage_ends(len(stages_of(state.algorithm)), options.steps)
    for model in state.models.values():
        model.train()
    device = state.batches.device
    with (
        signals_deferred() as request,
        profiled(options.profile, device) as stepped,
        state.several_backward_passes(),
    ):
        recorder = CudaGraphs() if options.graph else None
        loop = _Loop(state, options, schedule, data, tracker, clock, request, stepped, recorder)
        for stage in range(state.stage, len(ends)):
            if stage != state.stage:
                state.begin_stage(stage, data.training)
            loop.run(ends[stage - 1] if stage else 0, ends[stage])


@final
@dataclass
class _Loop:
    """The loop over one stage after the other; the fields are those of `train`, and what it sets up."""

    state: TrainingState
    options: LoopOptions
    schedule: Schedule
    data: DiagnosticData
    tracker: Fanout
    clock: Callable[[], float]
    request: PendingStop
    stepped: Callable[[], None]
    recorder: Recorder | None
    start: int = 0
    end: int = 0
    unsaved: bool = False

    def run(self, start: int, end: int) -> None:
        """Train from the state to the end of its stage, which has the steps after `start`, up to `end`.

        What is due after a step is done at the beginning of the next turn and not at the end of its own, so
        that a run which was stopped in between does it when it continues. With steps=5, eval_every=4,
        log_every=2 and a checkpoint every 3 steps, the order of events is::

            step 1, step 2, log 2, step 3, save 3, step 4, evaluate and log 4,
            step 5, evaluate and log 5, save 5

        A request to end that comes in step 2 is answered after it: log 2, save 2, end. The run continues
        with step 3.
        """
        self.start, self.end = start, end
        state, device = self.state, self.state.batches.device
        next_step = self._next_step(device)
        started = self.clock()
        while True:
            log_now, save_now = self._log_now(), self._save_now()
            if log_now or save_now or self.request:
                if device.type == "cuda":
                    torch.cuda.synchronize(device)  # or steps in its queue would not be counted as training
                state.result.train_seconds += self.clock() - started
                if log_now:
                    self._log()
                if save_now or self.request:
                    self._save()
                self.request.check()
                started = self.clock()
            if state.step == end:
                return
            set_rates(state.param_groups, self.schedule(state.step - start, end - start))
            next_step()
            self._count()

    def _next_step(self, device: torch.device) -> NextStep:
        state, autocast = self.state, self.options.autocast
        step = torch.tensor(float(state.step - self.start), device=device)
        progress = Progress(step, self.end - self.start, state.stage)
        if self.recorder is not None:
            return CapturedSteps(state, progress, autocast, self.recorder)
        return eager_steps(state, progress, autocast)

    def _evaluate_now(self) -> bool:
        step = self.state.step
        return step == self.end or step % self.options.eval_every == 0

    def _log_now(self) -> bool:
        step = self.state.step
        is_log_point = self._evaluate_now() or step % self.options.log_every == 0
        return is_log_point and self.state.logged[0] < step

    def _save_now(self) -> bool:
        step = self.state.step
        return self.unsaved and (step == self.options.steps or self.options.checkpoints.due(step))

    def _count(self) -> None:
        state = self.state
        state.step += 1
        state.images_seen += state.batches.images_per_step
        if state.average is not None:
            state.average.move(state.step - self.start, self.end - self.start)
        self.unsaved = True
        self.stepped()
        self.tracker.advance(state.step)

    def _log(self) -> None:
        """Log the means since the last log point, and the evaluation that is due with them."""
        state = self.state
        evaluate_now = self._evaluate_now()
        step_before, seconds_before = state.logged
        seconds = state.result.train_seconds
        last_rate = self.schedule(state.step - 1 - self.start, self.end - self.start)
        pseudo_labels = state.pseudo_label_meter
        metrics = state.meter.means() | (pseudo_labels.means() if pseudo_labels else {})
        metrics |= {
            "images_seen": state.images_seen,
            "train/lr": state.param_groups[0]["initial_lr"] * last_rate,
            "time/train_seconds": seconds,
            "time/steps_per_second": (state.step - step_before) / (seconds - seconds_before),
        }
        if evaluate_now:
            try:
                metrics |= evaluate_all(state, self.data, state.step == self.end, self.request.check)
            except StopRequested:  # before anything has changed: the run evaluates when it continues
                self._save()
                raise
        self.tracker.log(state.step, metrics)
        state.history.append({"step": state.step, **metrics})
        state.meter.clear()
        if pseudo_labels:
            pseudo_labels.clear()
        if evaluate_now and isinstance(state.algorithm, SampleImages):
            for name, image in state.algorithm.sample_images(state.models).items():
                self.tracker.log_image(state.step, name, image.cpu().numpy())
        self.unsaved = True

    def _save(self) -> None:
        """Write a checkpoint if there is something new; never after a loss that was not finite."""
        if self.unsaved:
            self.state.meter.check()
            self.options.checkpoints.save(self.state.state_dict())
            self.unsaved = False
