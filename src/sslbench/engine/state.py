"""What changes while a run trains, and what a checkpoint holds of it."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sslbench.algorithms.protocol import AnyAlgorithm, Staged, stages_of
from sslbench.core import Stage, TrainingImages
from sslbench.data.batches import BatchSource
from sslbench.engine.meter import StepMeter
from sslbench.errors import UserError
from sslbench.rundir.records import Calibration


@dataclass
class Score:
    """What the evaluations of a stage have shown so far. Accuracies and calibration errors are in [0, 1].

    The best step is the last with the highest validation accuracy: a tie gives no reason to prefer weights
    that are trained less. Test numbers never choose. ``test_calibration`` holds the fields of `Calibration`
    at the best step, in plain lists, as a checkpoint and JSON can hold them.
    """

    val_acc_best: float = -1.0
    step_best: int = 0
    test_acc: float = 0.0
    test_ece: float = 0.0
    test_calibration: dict[str, Any] = field(default_factory=dict)
    test_history: list[float] = field(default_factory=list)
    train_seconds: float = 0.0
    metrics_best: dict[str, float] = field(default_factory=dict)
    metrics_last: dict[str, float] = field(default_factory=dict)
    best_weights: dict[str, Tensor] = field(default_factory=dict)

    @property
    def test_acc_median20(self) -> float:
        """Median of the last 20 evaluations on the test set (arXiv:1905.02249, section 4.1)."""
        return statistics.median(self.test_history[-20:])


@dataclass
class TrainingState:
    """Everything that changes while a run trains; what a checkpoint holds.

    Attributes:
        algorithm: the method; it has no state of its own.
        models: its modules.
        new_optimizer: makes the optimizer of some parameters.
        batches: where the images come from.
        step: steps finished, over all stages.
        stage: position of the stage in training.
        images_seen: images taken from the data, over all stages.
        score: of the stage in training; its seconds are of the whole run.
        history: the log points so far, over all stages, each with ``step``.
        networks: the modules as they are called in training: `models`, or their compiled forms.
        optimizers: the stage's, the one of its trained modules first.
        meter: of the steps since the last log point.
    """

    algorithm: AnyAlgorithm
    models: dict[str, nn.Module]
    new_optimizer: Callable[[list[nn.Parameter]], Optimizer]
    batches: BatchSource
    step: int = 0
    stage: int = 0
    images_seen: int = 0
    score: Score = field(default_factory=Score)
    history: list[dict[str, float]] = field(default_factory=list)
    networks: Mapping[str, nn.Module] = field(init=False)
    optimizers: list[Optimizer] = field(init=False)
    meter: StepMeter = field(init=False)

    def __post_init__(self) -> None:
        self.networks = self.models
        self._fresh_optimizers()
        self.meter = StepMeter(self.batches.device)

    @property
    def plan(self) -> Stage:
        """The stage in training."""
        return stages_of(self.algorithm)[self.stage]

    @property
    def logged(self) -> tuple[int, float]:
        """The step of the last log point, and the seconds of training up to it."""
        point = self.history[-1] if self.history else {"step": 0, "time/train_seconds": 0.0}
        return int(point["step"]), point["time/train_seconds"]

    def compile(self) -> None:
        """Compile the modules as training calls them, when it first does; evaluation stays as it is.

        Random numbers are drawn as they are without: from torch's streams, in the same order.
        """
        from torch._functorch import config as autograd

        # Losses of rivals go back through one graph twice, which must outlive the first time.
        autograd.donated_buffer = not any(stage.rivals for stage in stages_of(self.algorithm))
        options: dict[str, str | int | bool | Callable[..., Any]] = {"fallback_random": True}
        self.networks = {
            name: cast("nn.Module", torch.compile(model, dynamic=False, options=options))
            for name, model in self.models.items()
        }

    def parameters_of(self, *names: str) -> list[nn.Parameter]:
        """The parameters of the modules `names`."""
        return [parameter for name in names for parameter in self.models[name].parameters()]

    def _fresh_optimizers(self) -> None:
        groups = [self.plan.trained, *((name,) for name in self.plan.rivals)]
        self.optimizers = [self.new_optimizer(self.parameters_of(*names)) for names in groups]
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["initial_lr"] = group["lr"]

    def begin_stage(self, stage: int, images: TrainingImages) -> None:
        """Go on to a later stage."""
        assert isinstance(self.algorithm, Staged), "an algorithm with one stage begins none"
        pool = self.algorithm.begin_stage(self.models, stage, images)
        self.stage = stage
        self.batches.change(self.plan.views, pool)
        self._fresh_optimizers()
        self.score = Score(train_seconds=self.score.train_seconds)
        self.meter = StepMeter(self.batches.device, self.step)

    def state_dict(self) -> dict[str, Any]:
        """All of it, with the global random streams that dropout and perturbations draw from."""
        return {
            "step": self.step,
            "stage": self.stage,
            "images_seen": self.images_seen,
            "models": {name: model.state_dict() for name, model in self.models.items()},
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "batches": self.batches.state_dict(),
            "score": vars(self.score),
            "history": self.history,
            "meter": self.meter.state_dict(),
            "chance": torch.get_rng_state(),
            "chance_cuda": torch.cuda.get_rng_state() if self.batches.device.type == "cuda" else None,
        }

    def load_state_dict(self, state: Mapping[str, Any], steps: int) -> None:
        """Go on where `state` was taken, on a device of the same kind, in a run of `steps` steps.

        Raises:
            UserError: it does not fit this run.
        """
        try:
            _check_plain(state, steps)
            self._load(state)
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            reason = " ".join(str(error).split()[:20])
            raise UserError(
                f"the run's checkpoint does not fit it ({type(error).__name__}: {reason}): delete the run's "
                f"folder to start again, or choose another run_dir"
            ) from error

    def _load(self, state: Mapping[str, Any]) -> None:
        self.step, self.stage, self.images_seen = state["step"], state["stage"], state["images_seen"]
        for name, model in self.models.items():
            model.load_state_dict(state["models"][name])
        self._fresh_optimizers()
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            own = [group.get("capturable") for group in optimizer.param_groups]
            optimizer.load_state_dict(saved)
            for group, capturable in zip(optimizer.param_groups, own, strict=True):
                group["lr"] = float(group["lr"])  # of recorded steps, it is a tensor
                if capturable is not None:
                    group["capturable"] = capturable
        self.batches.change(self.plan.views, None)
        self.batches.load_state_dict(state["batches"])
        self.score = Score(**state["score"])
        self.history = list(state["history"])
        self.meter.load_state_dict(state["meter"])
        torch.set_rng_state(state["chance"])
        if state["chance_cuda"] is not None and self.batches.device.type == "cuda":
            torch.cuda.set_rng_state(state["chance_cuda"])


def _check_plain(state: Mapping[str, Any], steps: int) -> None:
    """Check what is used as plain numbers; tensors are checked where they are loaded.

    Raises:
        ValueError: naming what is not as it should be.
        LookupError: something is absent.
    """

    def number(value: object) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool)

    def numbers(value: object) -> bool:
        return isinstance(value, dict) and all(isinstance(k, str) and number(v) for k, v in value.items())

    def whole(value: object, most: int) -> bool:
        return type(value) is int and 0 <= value <= most

    score, history = Score(**state["score"]), state["history"]
    plain = (score.val_acc_best, score.test_acc, score.test_ece, score.train_seconds)
    right = {
        "step": whole(state["step"], steps) and whole(score.step_best, steps),
        "images_seen": whole(state["images_seen"], 2**63),
        "meter": whole(state["meter"]["count"], steps) and whole(state["meter"]["first_step"], steps),
        "score": all(map(number, plain)) and all(map(numbers, (score.metrics_best, score.metrics_last))),
        "test_history": isinstance(score.test_history, list) and all(map(number, score.test_history)),
        "history": isinstance(history, list)
        and all(numbers(p) and whole(p["step"], steps) and "time/train_seconds" in p for p in history),
    }
    # The last evaluation is that of the last step, unless it is still to be done.
    evaluated = bool(history) and history[-1].get("step") == steps if right["history"] else False
    right["score"] &= not evaluated or bool(score.test_history)
    for name, fits in right.items():
        if not fits:
            raise ValueError(name)
    if score.test_calibration:  # its bins are checked where they are made
        Calibration(**{name: tuple(values) for name, values in score.test_calibration.items()})


def stage_ends(stages: Sequence[Stage], steps: int) -> list[int]:
    """The step at which each stage ends, in proportion to the stages' shares; the last is `steps`.

    Raises:
        UserError: there are fewer steps than stages.
    """
    total = sum(stage.share for stage in stages)
    ends = [round(steps * sum(s.share for s in stages[: i + 1]) / total) for i in range(len(stages))]
    if any(end <= start for start, end in zip([0, *ends], ends, strict=False)):
        raise UserError(f"steps={steps} does not give each of the {len(stages)} stages a step: raise it")
    return ends
