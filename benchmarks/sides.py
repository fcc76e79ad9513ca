"""The two ways to do a step that `speed.py` compares, over the same random images."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from compose import settings_from
from ordinary import loader_batches, ordinary_models
from torch.utils.flop_counter import FlopCounterMode

from sslbench.algorithms.protocol import AnyAlgorithm, stages_of
from sslbench.config.build import build
from sslbench.config.schema import Settings
from sslbench.core import Batch, Progress
from sslbench.data.arrays import ImageArrays
from sslbench.data.batches import BatchSource
from sslbench.engine.device import autocast_type, pick_device
from sslbench.engine.state import TrainingState
from sslbench.engine.step import (
    CapturedSteps,
    CudaGraphs,
    back_propagate,
    eager_steps,
    set_rates,
    step_outputs,
    training_step,
)
from sslbench.run.setup import Data, build_models, prepare_data, prepare_process
from sslbench.system.memory import keep_freed_memory

#: Network, and the images that it is measured on.
NETWORKS = {"mlp": "mnist", "cnn": "mnist", "wrn_28_2": "cifar10"}
SIZES = {"mnist": (60_000, 28, 28, 1), "cifar10": (50_000, 32, 32, 3)}
LOOKS = {
    "mnist": ["mean=[0.0]", "std=[1.0]", "crop=2", "noise=0.0"],
    "cifar10": [
        *("mean=[0.4914,0.4822,0.4465]", "std=[0.2470,0.2435,0.2616]"),
        *("crop=2", "flip=true", "noise=0.0"),
    ],
}
_VALID = 1000


def synthetic(folder: Path, dataset: str, count: int | None = None) -> Path:
    """An npz of random images in the size of `dataset`, with `count` of them if given."""
    total, *shape = SIZES[dataset]
    count = count or total
    path = folder / f"{dataset}_{count}.npz"
    if not path.exists():
        random = np.random.default_rng(0)
        labels = np.arange(count) % 10
        np.savez(
            path,
            x_train=random.integers(0, 256, (count, *shape), dtype=np.uint8),
            y_train=labels,
            x_test=random.integers(0, 256, (1000, *shape), dtype=np.uint8),
            y_test=labels[:1000],
        )
    return path


def settings_of(data: Path, network: str, algorithm: str, device: str, *more: str) -> Settings:
    """The default settings of the measured run, with `more` overrides."""
    words = [f"algorithm={algorithm}", f"model={network}", "dataset=npz", f"dataset.path={data}"]
    words += [f"dataset.images.{look}" for look in LOOKS[NETWORKS[network]]]
    words += ["batch.labelled=50", "batch.unlabelled=50", "num_labels=1000", f"num_valid={_VALID}"]
    return settings_from([*words, "logger=none", f"device={device}", *more])


@dataclass(frozen=True)
class Way:
    """One way to do the step.

    Attributes:
        state: what is trained.
        take: does the next step.
        batch: gives a batch.
        autocast: the type of the forward passes, or None for float32.
        ahead: batches that loaders may have ready.
    """

    state: TrainingState
    take: Callable[[], object]
    batch: Callable[[], Batch]
    autocast: torch.dtype | None = None
    ahead: int = 0

    def measure(self, steps: int) -> float:
        """Do so many steps; returns steps a second."""
        device = self.state.batches.device
        for _ in range(self.ahead):  # made while nobody measured
            self.batch()
        _wait(device)
        began = time.perf_counter()
        for _ in range(steps):
            set_rates(self.state.param_groups, 1.0)
            self.take()
        _wait(device)
        return steps / (time.perf_counter() - began)

    def passes(self, steps: int) -> float:
        """Do the forward and backward passes of so many steps on one batch; returns such a second."""
        device, state, batch = self.state.batches.device, self.state, self.batch()
        progress = Progress(torch.zeros((), device=device), 1000)
        _wait(device)
        began = time.perf_counter()
        for _ in range(steps):
            for output in step_outputs(state, batch, progress, self.autocast):
                back_propagate(state, output)
        _wait(device)
        return steps / (time.perf_counter() - began)

    def gflop(self) -> float:
        """Arithmetic of the matrix products and convolutions of one step, in 10^9 operations."""
        with FlopCounterMode(display=False) as counter:
            self.measure(1)
        return float(counter.get_total_flops()) / 1e9


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _state(settings: Settings, data: Data, device: torch.device, ordinary: bool) -> TrainingState:
    algorithm: AnyAlgorithm = build(settings.algorithm, "algorithm")
    models = build_models(settings, algorithm, data, device)
    if ordinary:
        models = ordinary_models(models)
    node = {key: value for key, value in settings.optimizer.items() if not (ordinary and key == "fused")}
    source = BatchSource(
        data.train,
        data.targets,
        data.split,
        stages_of(algorithm)[0].views,
        settings.batch.labelled,
        settings.batch.unlabelled,
        settings.seed,
        device,
    )
    state = TrainingState(algorithm, models, build(node, "optimizer"), source)
    if settings.compile and not ordinary:
        state.compile()
    return state


def ours(settings: Settings) -> Way:
    """The step of a run with `settings`."""
    device = pick_device(settings.device)
    prepare_process(settings)
    state = _state(settings, prepare_data(settings, device), device, ordinary=False)
    keep_freed_memory()
    progress = Progress(torch.zeros((), device=device), settings.steps)
    autocast = autocast_type(settings.precision)
    take: Callable[[], object] = eager_steps(state, progress, autocast)
    if settings.graph:
        take = CapturedSteps(state, progress, autocast, CudaGraphs())
    return Way(state, take, state.batches.next, autocast)


def ordinary(settings: Settings, workers: int) -> Way:
    """The same step as tutorials do it, in float32, with so many processes for each loader."""
    device = pick_device(settings.device)
    # What the networks need to know of the data comes from a few of its images: one copy of all is kept.
    path = Path(settings.dataset["path"])
    few = synthetic(path.parent, path.stem.partition("_")[0], 5000)
    data = prepare_data(replace(settings, dataset={**settings.dataset, "path": str(few)}), device)
    state = _state(settings, data, device, ordinary=True)
    arrays: ImageArrays = build(settings.dataset, "dataset")
    following = loader_batches(
        arrays, data.transform.images, state.current_stage.views, settings, workers, device
    )
    progress = Progress(torch.zeros((), device=device), settings.steps)
    return Way(
        state,
        lambda: training_step(state, following(), progress, None),
        following,
        ahead=2 * workers,  # each holds two batches, by default
    )
