"""What changes while a run trains, and what a checkpoint holds of it."""

import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sslbench.algorithms.protocol import AnyAlgorithm, Staged, stages_of
from sslbench.core import Stage, TrainingImages
from sslbench.data.batches import BatchSource
from sslbench.engine.averages import WEIGHT_AVERAGE, AveragedWeights, AverageRule, averaged_module
from sslbench.engine.meter import StepMeter
from sslbench.engine.parameter_groups import NewOptimizer, ParameterGroups
from sslbench.engine.pseudo_label_meter import PseudoLabelMeter
from sslbench.errors import UserError
from sslbench.rundir.records import Calibration


@dataclass
class StageResult:
    """The evaluations of a stage so far. Accuracies and calibration errors are in [0, 1].

    The best step is the last with the highest validation accuracy: a tie gives no reason to prefer weights
    that are trained less. Test numbers never select. ``test_calibration`` holds the fields of `Calibration`
    at the best step, in plain lists, as a checkpoint and JSON can hold them, and ``test_confusion`` the
    counts by true and predicted class there. ``train_seconds`` are those of the whole run.
    """

    val_acc_best: float = -1.0
    step_best: int = 0
    test_acc: float = 0.0
    test_ece: float = 0.0
    test_calibration: dict[str, Any] = field(default_factory=dict)
    test_confusion: list[list[int]] = field(default_factory=list)
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
        algorithm: it has no state of its own.
        models: its modules.
        new_optimizer: makes the optimizer of some parameters.
        batches: where the images come from.
        average_rule: of the average that is evaluated; None for none.
        groups: which parameters optimizers treat otherwise; None for none.
        step: steps finished, over all stages.
        stage: position of the stage in training.
        pseudo_label_meter: of the pseudo-labels since the last log point; None where no true labels are.
        images_seen: images taken from the data, over all stages.
        result: of the stage in training.
        history: the log points so far, over all stages, each with ``step``.
        step_models: the modules that a step calls: `models`, or their compiled forms.
        optimizers: those of the stage, by name.
        average: that of the stage, by `average_rule`; else None.
        meter: of the steps since the last log point.
    """

    algorithm: AnyAlgorithm
    models: dict[str, nn.Module]
    new_optimizer: NewOptimizer
    batches: BatchSource
    average_rule: AverageRule | None = None
    groups: ParameterGroups | None = None
    pseudo_label_meter: PseudoLabelMeter | None = None
    step: int = 0
    stage: int = 0
    images_seen: int = 0
    result: StageResult = field(default_factory=StageResult)
    history: list[dict[str, float]] = field(default_factory=list)
    step_models: Mapping[str, nn.Module] = field(init=False)
    optimizers: dict[str, Optimizer] = field(init=False)
    average: AveragedWeights | None = field(init=False)
    meter: StepMeter = field(init=False)

    def __post_init__(self) -> None:
        self._stages = stages_of(self.algorithm)
        self.step_models = self.models
        if self.groups is not None:
            self.groups.check_names(
                [name for stage in self._stages for o in stage.optimizers for name in self._named(stage, o)]
            )
        self._fresh_optimizers()
        self._fresh_average()
        self.meter = StepMeter(self.batches.device)

    @property
    def current_stage(self) -> Stage:
        """The stage in training."""
        return self._stages[self.stage]

    @property
    def logged(self) -> tuple[int, float]:
        """The step of the last log point, and the seconds of training up to it."""
        point = self.history[-1] if self.history else {"step": 0, "time/train_seconds": 0.0}
        return int(point["step"]), point["time/train_seconds"]

    def compile(self) -> None:
        """Compile the modules that a step calls, at their first call; evaluation stays as it is.

        Random numbers are drawn as they are without: from torch's streams, in the same order.
        """
        options: dict[str, str | int | bool | Callable[..., Any]] = {"fallback_random": True}
        self.step_models = {
            name: cast("nn.Module", torch.compile(model, dynamic=False, options=options))
            for name, model in self.models.items()
        }

    @contextmanager
    def several_backward_passes(self) -> Iterator[None]:
        """Steps in this block may pass backwards through a compiled graph once for each optimizer."""
        several = any(len(stage.optimizers) > 1 for stage in self._stages)
        if self.step_models is self.models or not several:
            yield
            return
        from torch._functorch import config

        with config.patch(donated_buffer=False):  # by default, the first pass reuses the graph's memory
            yield

    @property
    def predictors(self) -> dict[str, nn.Module]:
        """The modules that are evaluated; validation of the first selects the checkpoint."""
        declared = {name: self.models[name] for name in self.current_stage.predictors}
        return declared if self.average is None else {WEIGHT_AVERAGE: self.average.module} | declared

    def _named(self, stage: Stage, optimizer: str) -> dict[str, nn.Parameter]:
        """The parameters that an optimizer of `stage` updates, by name: that of the module comes first."""
        return {
            f"{module}.{name}": parameter
            for module in stage.optimizers[optimizer]
            for name, parameter in self.models[module].named_parameters()
        }

    def parameters_of(self, optimizer: str) -> list[nn.Parameter]:
        """The parameters that the stage's `optimizer` updates."""
        return list(self._named(self.current_stage, optimizer).values())

    def _new_optimizer(self, name: str) -> Optimizer:
        if self.groups is None:
            return self.new_optimizer(self.parameters_of(name))
        return self.groups.optimizer(self.new_optimizer, self._named(self.current_stage, name))

    def _fresh_average(self) -> None:
        self.average = None
        if self.average_rule is not None:
            model = self.models[averaged_module(self.current_stage)]
            self.average = AveragedWeights(self.average_rule, model)

    def _fresh_optimizers(self) -> None:
        self.optimizers = {name: self._new_optimizer(name) for name in self.current_stage.optimizers}
        for group in self.param_groups:
            group["initial_lr"] = group["lr"]

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Those of all optimizers."""
        return [group for optimizer in self.optimizers.values() for group in optimizer.param_groups]

    def begin_stage(self, stage: int, images: TrainingImages) -> None:
        """Continue with a later stage."""
        assert isinstance(self.algorithm, Staged), "an algorithm with one stage begins none"
        pool = self.algorithm.begin_stage(self.models, stage, images)
        self.stage = stage
        self.batches.change(self.current_stage.views, pool)
        self._fresh_optimizers()
        self._fresh_average()
        self.result = StageResult(train_seconds=self.result.train_seconds)
        self.meter = StepMeter(self.batches.device, self.step)

    def state_dict(self) -> dict[str, Any]:
        """All of it, with the global random streams that dropout and perturbations draw from."""
        average = {} if self.average is None else {"average": self.average.state_dict()}
        return {
            "step": self.step,
            "stage": self.stage,
            "images_seen": self.images_seen,
            "models": {name: model.state_dict() for name, model in self.models.items()},
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()},
            "batches": self.batches.state_dict(),
            "result": vars(self.result),
            "history": self.history,
            "meter": self.meter.state_dict(),
            "pseudo_labels": self.pseudo_label_meter.state_dict() if self.pseudo_label_meter else None,
            "rng_state": torch.get_rng_state(),
            "rng_state_cuda": torch.cuda.get_rng_state() if self.batches.device.type == "cuda" else None,
            **average,
        }

    def load_state_dict(self, state: Mapping[str, Any], steps: int) -> None:
        """Continue where `state` was taken, on a device of the same kind, in a run of `steps` steps.

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
        self._fresh_average()
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self._fresh_optimizers()
        for name, optimizer in self.optimizers.items():
            own = [group.get("capturable") for group in optimizer.param_groups]
            optimizer.load_state_dict(state["optimizers"][name])
            for group, capturable in zip(optimizer.param_groups, own, strict=True):
                group["lr"] = float(group["lr"])  # of captured steps, it is a tensor
                if capturable is not None:
                    group["capturable"] = capturable
        self.batches.change(self.current_stage.views, None)
        self.batches.load_state_dict(state["batches"])
        self.result = StageResult(**state["result"])
        self.history = list(state["history"])
        self.meter.load_state_dict(state["meter"])
        if self.pseudo_label_meter:
            self.pseudo_label_meter.load_state_dict(state["pseudo_labels"])
        torch.set_rng_state(state["rng_state"])
        if state["rng_state_cuda"] is not None and self.batches.device.type == "cuda":
            torch.cuda.set_rng_state(state["rng_state_cuda"])


def _check_plain(state: Mapping[str, Any], steps: int) -> None:
    """Check what is used as plain numbers; tensors are checked where they are loaded.

    Raises:
        ValueError: something is of another type, or out of range.
        LookupError: something is absent.
    """
    from pydantic import Field, TypeAdapter

    def check(kind: Any, *values: object) -> None:
        for value in values:
            TypeAdapter(kind).validate_python(value, strict=True)

    result, history = StageResult(**state["result"]), state["history"]
    check(list[dict[str, float]], history)
    check(dict[str, float], result.metrics_best, result.metrics_last)
    check(list[float], result.test_history, [point["time/train_seconds"] for point in history])
    check(float, result.val_acc_best, result.test_acc, result.test_ece, result.train_seconds)
    places = [state["step"], result.step_best, state["meter"]["first_step"], *(p["step"] for p in history)]
    check(list[Annotated[int, Field(ge=0, le=steps)]], places)
    check(Annotated[int, Field(ge=0)], state["images_seen"])
    # The last evaluation is that of the last step, unless it is still to be done.
    if history and history[-1]["step"] == steps and not result.test_history:
        raise ValueError("test_history")
    if result.test_calibration:  # its bins are checked where they are made
        Calibration(**{name: tuple(values) for name, values in result.test_calibration.items()})


def stage_ends(stages: int, steps: int) -> list[int]:
    """The step at which each of so many equally long stages ends; the last is `steps`.

    Raises:
        UserError: there are fewer steps than stages.
    """
    if steps < stages:
        raise UserError(f"steps={steps} does not give each of the {stages} stages a step: raise it")
    return [round(steps * (stage + 1) / stages) for stage in range(stages)]
