"""Everything that `train` needs, small: algorithms whose updates are known beforehand."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sslbench.algorithms.protocol import AnyAlgorithm, stages_of
from sslbench.config.intervals import Interval
from sslbench.core import (
    Batch,
    DiagnosticData,
    ModelFactory,
    Progress,
    Stage,
    StepOutput,
    TrainingImages,
    Views,
)
from sslbench.data.batches import BatchSource
from sslbench.data.splits import make_split
from sslbench.data.views import DeviceImages, ImageTransform
from sslbench.engine import diagnostics
from sslbench.engine.averages import AverageRule
from sslbench.engine.evaluation import EvaluationSet
from sslbench.engine.loop import LoopOptions, train
from sslbench.engine.parameter_groups import ParameterGroups
from sslbench.engine.schedules import Schedule, constant
from sslbench.engine.state import TrainingState
from sslbench.rundir.checkpoint import Checkpoints, Origin
from sslbench.tracking.tracker import RunInfo

CPU = torch.device("cpu")
ORIGIN = Origin("run", "split", "cpu")
PLAIN = partial(torch.optim.SGD, lr=0.25)
MOMENTUM = partial(torch.optim.SGD, lr=0.25, momentum=0.9)  # so that the optimizer has a state to lose


def first_weight(model: nn.Module) -> float:
    return next(model.parameters()).flatten()[0].item()


def sum_of(model: nn.Module) -> Tensor:
    return torch.stack([parameter.sum() for parameter in model.parameters()]).sum()


def halving(step: int, total: int) -> float:
    return 0.5**step


class Slope:
    """Its loss is the sum of the parameters, so that each update is the learning rate and nothing else."""

    views = Views(("weak",), ("weak",))
    trained = ("student",)

    def __init__(self, predictors: tuple[str, ...] = ("student",), bad_step: int | None = None) -> None:
        self.predictors = predictors
        self.bad_step = bad_step
        self.on_step: Callable[[], None] = lambda: None
        self.seen_steps: list[float] = []
        self.autocast: list[tuple[bool, bool]] = []

    def build(self, new_model: ModelFactory) -> dict[str, nn.Module]:
        return {"student": new_model()}

    def step(self, models: Mapping[str, nn.Module], batch: Batch, progress: Progress) -> StepOutput:
        self.on_step()
        assert all(model.training for model in models.values()), "evaluation left its mode behind"
        self.seen_steps.append(progress.step.item())
        self.autocast.append((torch.is_autocast_enabled("cpu"), torch.is_autocast_cache_enabled()))
        loss = sum_of(models["student"])
        if len(self.seen_steps) == self.bad_step:
            loss = loss * math.nan
        return StepOutput(loss, {"slope": loss})


class Stairs:
    """Two stages, the second with other views, a pool of six images and two optimizers.

    All gradients are 1 but the rival's, which is -1; each loss also has a part that belongs to the other.
    """

    stages = (
        Stage(Views(("weak",)), trained=("low",), predictors=("low",)),
        Stage(Views((), ("weak",)), {"main": ("high",), "rival": ("rival",)}, ("high", "low")),
    )

    def __init__(self, bad_step: int | None = None) -> None:
        self.bad_step = bad_step
        self.begun: list[int] = []
        self.seen: list[tuple[int, float, int]] = []
        self.drawn: list[list[int]] = []

    def build(self, new_model: ModelFactory) -> dict[str, nn.Module]:
        return {name: new_model() for name in ("low", "high", "rival")}

    def begin_stage(self, models: Mapping[str, nn.Module], stage: int, images: TrainingImages) -> Tensor:
        self.begun.append(stage)
        return images.unlabelled[:6]

    def step(self, models: Mapping[str, nn.Module], batch: Batch, progress: Progress) -> StepOutput:
        self.seen.append((progress.stage, progress.step.item(), progress.total))
        self.drawn.append(batch.unlabelled_index.tolist())
        if progress.stage == 0:
            low = sum_of(models["low"])
            return StepOutput(low, {"low": low})
        high, rival = sum_of(models["high"]), sum_of(models["rival"])
        if len(self.seen) == self.bad_step:
            rival = rival * math.nan
        return StepOutput({"main": high + 5 * rival, "rival": 7 * high - rival}, {"high": high})

    def diagnose(self, models: Mapping[str, nn.Module], stage: int, data: DiagnosticData) -> dict[str, float]:
        return {"diagnostic/stage": float(stage)}

    def sample_images(self, models: Mapping[str, nn.Module]) -> dict[str, Tensor]:
        return {"still": torch.full((2, 3, 1), 7, dtype=torch.uint8)}


class Recorder:
    """A tracker that keeps everything."""

    def __init__(self, models: Mapping[str, nn.Module]) -> None:
        self._models = models
        self.advanced: list[int] = []
        self.first_weights: list[dict[str, float]] = []
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.shown: list[tuple[int, str, NDArray[np.uint8]]] = []
        self.stop_at: int | None = None

    def start(self, run: RunInfo) -> None:
        raise AssertionError("the loop neither starts nor closes trackers")

    def advance(self, step: int) -> None:
        self.advanced.append(step)
        self.first_weights.append({name: first_weight(model) for name, model in self._models.items()})
        if step == self.stop_at:
            raise KeyboardInterrupt

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self.logged.append((step, dict(metrics)))

    def log_image(self, step: int, name: str, picture: NDArray[np.uint8]) -> None:
        assert self.logged[-1][0] == step, "a picture comes after the log point of its step"
        self.shown.append((step, name, picture))

    def close(self, status: str, result: Mapping[str, object] | None) -> None:
        raise AssertionError("the loop neither starts nor closes trackers")

    def curve(self, key: str) -> dict[int, float]:
        return {step: metrics[key] for step, metrics in self.logged if key in metrics}


class Rig:
    """A state with all that `train` needs beside it."""

    def __init__(
        self,
        folder: Path,
        algorithm: AnyAlgorithm | None = None,
        new_optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer] = PLAIN,
        average: AverageRule | None = None,
        groups: ParameterGroups | None = None,
    ) -> None:
        algorithm = algorithm or Slope()
        stages = stages_of(algorithm)
        random = np.random.default_rng(0)
        targets = np.arange(60) % 2
        pixels = random.integers(0, 256, (60, 2, 2, 1), dtype=np.uint8)
        images = DeviceImages(pixels, ImageTransform([0.0], [1.0], []), CPU)
        split = make_split(targets, 2, 4, 20, 0)
        classes = torch.from_numpy(targets)
        valid, held_out = torch.from_numpy(split.valid), torch.arange(30)
        self.data = diagnostics.DiagnosticData(
            images,
            classes,
            split,
            EvaluationSet(images, valid, classes[valid], 2),
            EvaluationSet(images, held_out, classes[held_out], 2),
        )
        torch.manual_seed(0)
        names = {name for s in stages for group in s.optimizers.values() for name in (*group, *s.predictors)}
        self.models: dict[str, nn.Module] = {
            name: nn.Sequential(nn.Flatten(), nn.Linear(4, 2)) for name in sorted(names)
        }
        batches = BatchSource(images, classes, split, stages[0].views, 3, 5, 0, CPU)
        self.state = TrainingState(algorithm, self.models, new_optimizer, batches, average, groups)
        self.recorder = Recorder(self.models)
        self.checkpoint = folder / "checkpoint" / "last.pt"

    def train(
        self,
        steps: int = 10,
        eval_every: int = 4,
        log_every: int = 3,
        schedule: Schedule = constant,
        autocast: torch.dtype | None = None,
        clock: Callable[[], float] | None = None,
        checkpoint_every: Interval | None = None,
    ) -> None:
        every = checkpoint_every or Interval(steps=eval_every)
        checkpoints = Checkpoints(self.checkpoint.parent, ORIGIN, every)
        options = LoopOptions(steps, eval_every, log_every, autocast, checkpoints)
        ticks = iter(range(10_000))
        clock = clock or (lambda: float(next(ticks)))
        train(self.state, options, schedule, self.data, self.recorder, clock)
