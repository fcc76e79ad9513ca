"""The two sides that `speed.py` compares, over the same random images."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from omegaconf import open_dict
from ordinary import loader_batches, ordinary_models
from torch.utils.flop_counter import FlopCounterMode

from sslbench import config
from sslbench.algorithms.base import AnyAlgorithm, stages_of
from sslbench.building import build
from sslbench.config import Settings
from sslbench.core import Progress
from sslbench.data.batches import BatchSource
from sslbench.engine.device import pick_device, pick_precision
from sslbench.engine.loop import training_step
from sslbench.engine.state import TrainingState
from sslbench.setup import build_models, prepare_data, prepare_process

Side = Callable[[int], float]
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


def settings_of(data: Path, dataset: str, network: str, algorithm: str, device: str) -> Settings:
    """The default settings of the measured run."""
    config.register()
    words = [f"algorithm={algorithm}", f"model={network}", "dataset=npz", f"dataset.path={data}"]
    words += [f"dataset.images.{look}" for look in LOOKS[dataset]]
    words += ["batch.labelled=50", "batch.unlabelled=50", "num_labels=1000", "num_valid=1000", "logger=none"]
    words += [f"device={device}"]
    with initialize_config_dir(str(config.conf_dir()), version_base="1.3"):
        composed = compose("config", overrides=words, return_hydra_config=True)
    choices = composed.hydra.runtime.choices
    with open_dict(composed):
        del composed["hydra"]
    return config.from_config(composed, choices, words)


class Sides:
    """Our step and the ordinary one, over the same data.

    Args:
        settings: of the run.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings, self.device = settings, pick_device(settings.device)
        prepare_process(settings)
        self.data = prepare_data(settings, self.device)
        with np.load(settings.dataset["path"], allow_pickle=False) as arrays:
            self.images, self.labels = arrays["x_train"], arrays["y_train"]

    def _state(self, ordinary: bool) -> TrainingState:
        algorithm: AnyAlgorithm = build(self.settings.algorithm, "algorithm")
        models = build_models(self.settings, algorithm, self.data, self.device)
        if ordinary:
            models = ordinary_models(models)
        node = {k: v for k, v in self.settings.optimizer.items() if not (ordinary and k == "fused")}
        source = BatchSource(
            self.data.train,
            self.data.targets,
            self.data.split,
            stages_of(algorithm)[0].views,
            self.settings.batch.labelled,
            self.settings.batch.unlabelled,
            self.settings.seed,
            self.device,
        )
        return TrainingState(algorithm, models, build(node, "optimizer"), source)

    def side(self, workers: int | None) -> tuple[Side, TrainingState]:
        """Does so many steps, and returns steps a second; the ordinary way if `workers` are given."""
        ordinary = workers is not None
        state = self._state(ordinary)
        progress = Progress(torch.zeros((), device=self.device), self.settings.steps)
        autocast = None if ordinary else pick_precision(self.settings.precision, self.device)
        following = state.batches.next
        if workers is not None:
            views = stages_of(state.algorithm)[0].views
            following = loader_batches(
                self.images,
                self.labels,
                self.data.split,
                self.data.transform,
                views,
                self.settings,
                workers,
                self.device,
            )

        def measure(steps: int) -> float:
            torch.set_flush_denormal(not ordinary)
            self._wait()
            began = time.perf_counter()
            for _ in range(steps):
                training_step(state, following(), progress, autocast)
            self._wait()
            return steps / (time.perf_counter() - began)

        return measure, state

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def gflop(self) -> float:
        """Arithmetic of one step, in 10^9 operations; 0 where torch cannot count it."""
        measure, _ = self.side(None)
        with FlopCounterMode(display=False) as counter:
            measure(1)
        return float(counter.get_total_flops()) / 1e9
