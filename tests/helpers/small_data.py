"""A small data set, prepared as a run prepares its own, for algorithms with stages or several optimizers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from sslbench.algorithms.protocol import AnyAlgorithm, stages_of
from sslbench.core import DataSpec, Progress
from sslbench.data.batches import BatchSource
from sslbench.data.splits import Split
from sslbench.data.views import DeviceImages, ImageTransform
from sslbench.engine.diagnostics import DiagnosticData
from sslbench.engine.evaluation import EvaluationSet
from sslbench.engine.state import TrainingState
from sslbench.engine.step import training_step

CPU = torch.device("cpu")
CLASSES = 3
COUNT = 90


class Networks:
    """A `sslbench.core.ModelFactory` of models with one linear layer, or of those that `make` makes."""

    def __init__(self, spec: DataSpec, make: Callable[[int], nn.Module] | None = None) -> None:
        self.spec, self.made = spec, 0
        self._make = make

    def __call__(self, num_outputs: int | None = None) -> nn.Module:
        self.made += 1
        outputs = num_outputs or self.spec.num_classes
        if self._make:
            return self._make(outputs)
        pixels = self.spec.channels * self.spec.height * self.spec.width
        return nn.Sequential(nn.Flatten(), nn.Dropout(0.3), nn.Linear(pixels, outputs))


class SmallData:
    """Ninety grey images of noise in three classes: 9 labelled, 21 validation, 30 unlabelled, 30 test ones.

    Args:
        size: height and width.
        targets: other labels than the true ones, ``[90]``; shows who reads which.
    """

    def __init__(self, size: int = 4, targets: Tensor | None = None) -> None:
        pixels = np.random.default_rng(0).integers(0, 256, (COUNT, size, size, 1), dtype=np.uint8)
        self.images = DeviceImages(pixels, ImageTransform([0.5], [0.5], ["noise"], noise=0.5), CPU)
        self.targets = torch.arange(COUNT) % CLASSES if targets is None else targets
        self.split = Split(*np.split(np.arange(60), [9, 30]))
        self.spec = DataSpec(1, size, size, CLASSES, COUNT, (-1.0,), (1.0,))
        sets = [
            EvaluationSet(self.images, index, self.targets[index], CLASSES)
            for index in (torch.from_numpy(self.split.valid), torch.arange(60, COUNT))
        ]
        self.parts = DiagnosticData(self.images, self.targets, self.split, *sets)

    def state(
        self, method: AnyAlgorithm, make: Callable[[int], nn.Module] | None = None, seed: int = 1
    ) -> TrainingState:
        """A method ready for its first step."""
        torch.manual_seed(seed)
        models = method.build(Networks(self.spec, make))
        batches = BatchSource(self.images, self.targets, self.split, stages_of(method)[0].views, 6, 8, 0, CPU)
        return TrainingState(method, models, lambda parameters: torch.optim.SGD(parameters, lr=0.1), batches)

    def train(self, state: TrainingState, stages: int, steps: int = 4) -> None:
        """The first `stages` stages, with `steps` steps each."""
        for stage in range(stages):
            if stage:
                state.begin_stage(stage, self.parts.training)
            for step in range(steps):
                progress = Progress(torch.tensor(float(step)), steps, stage)
                training_step(state, state.batches.next(), progress, None)


def without_labels_of(index: np.ndarray) -> Tensor:
    """The labels of `SmallData` with wrong ones at `index`."""
    targets = torch.arange(COUNT) % CLASSES
    targets[index] = (targets[index] + 1) % CLASSES
    return targets


def weights(state: TrainingState) -> dict[str, Tensor]:
    """Copies of all parameters and buffers, by module and name."""
    return {
        f"{module}.{name}": value.clone()
        for module, model in state.models.items()
        for name, value in model.state_dict().items()
    }


def same(ones: dict[str, Tensor], others: dict[str, Tensor]) -> bool:
    """Whether two results of `weights` are equal bit for bit."""
    assert ones.keys() == others.keys()
    return all(torch.equal(ones[name], others[name]) for name in ones)
