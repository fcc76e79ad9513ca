"""Steps a second of this project's data path against the ordinary DataLoader pipeline, in one run.

    python benchmarks/step_speed.py algorithm=vat dataset=mnist model=cnn
    python benchmarks/step_speed.py algorithm=pi_model --workers 2 --rounds 7

Both sides train the same network with the same algorithm and optimizer and ask for the same views. One
side gathers and augments whole batches on the training device; the other is what a tutorial writes: a
`Dataset` that applies torchvision's transforms image by image, and two `DataLoader`s with workers.
The sides take turns, round by round, so that a busy machine is busy for both; the ratio of the medians is
the result, and the spread of the rounds is printed beside it. Of several stages the first is measured.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator

import torch
from hydra import compose, initialize_config_dir
from omegaconf import open_dict
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from sslbench import config
from sslbench.algorithms.base import AnyAlgorithm, stages_of
from sslbench.building import build
from sslbench.core import Batch, Progress, Views
from sslbench.data.arrays import ImageArrays
from sslbench.data.batches import BatchSource
from sslbench.data.splits import Indices
from sslbench.data.views import ImageTransform
from sslbench.engine.device import pick_device, pick_precision
from sslbench.engine.loop import training_step
from sslbench.engine.state import TrainingState
from sslbench.setup import Data, build_models, prepare_data, prepare_process


class PerImageViews(Dataset[tuple[tuple[Tensor, ...], int]]):
    """Images of `positions`, each augmented by torchvision's transforms, one at a time."""

    def __init__(
        self, arrays: ImageArrays, positions: Indices, views: tuple[str, ...], look: ImageTransform
    ) -> None:
        self.images = torch.from_numpy(arrays.x_train).permute(0, 3, 1, 2)
        self.labels = arrays.y_train
        self.positions = positions
        self.views = views
        channels = self.images.shape[1]
        size = tuple(self.images.shape[2:])
        crop = [v2.RandomCrop(size, padding=look.crop, padding_mode="reflect")] if look.crop else []
        flip = [v2.RandomHorizontalFlip()] if look.flip else []
        mean = list(look.mean) * (channels // len(look.mean))
        std = list(look.std) * (channels // len(look.std))
        tail = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)]
        noise = [v2.Lambda(lambda x: x + look.noise * torch.randn_like(x))] if look.noise else []
        self.transforms = {"weak": v2.Compose([*crop, *flip, *tail, *noise]), "clean": v2.Compose(tail)}

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, item: int) -> tuple[tuple[Tensor, ...], int]:
        position = int(self.positions[item])
        views = tuple(self.transforms[view](self.images[position]) for view in self.views)
        return views, int(self.labels[position])


def endless(dataset: PerImageViews, batch_size: int, workers: int) -> Iterator[tuple[list[Tensor], Tensor]]:
    """Shuffled passes over `dataset` without end."""
    sampler = torch.utils.data.RandomSampler(dataset, replacement=True, num_samples=2**40)
    yield from DataLoader(
        dataset, batch_size, sampler=sampler, num_workers=workers, persistent_workers=workers > 0
    )


def loader_batches(
    data: Data,
    arrays: ImageArrays,
    views: Views,
    settings: config.Settings,
    workers: int,
    device: torch.device,
) -> Callable[[], Batch]:
    """The ordinary pipeline, as a function that gives the next batch on `device`."""

    def of(positions: Indices, names: tuple[str, ...], size: int) -> Iterator[tuple[list[Tensor], Tensor]]:
        return endless(PerImageViews(arrays, positions, names, data.transform), size, workers)

    labelled = of(data.split.labelled, views.labelled, settings.batch.labelled)
    unlabelled = of(data.split.unlabelled, views.unlabelled, settings.batch.unlabelled)

    def following() -> Batch:
        images, targets = next(labelled)
        others: list[Tensor] = next(unlabelled)[0] if views.unlabelled else []
        return Batch(
            tuple(image.to(device) for image in images),
            targets.to(device),
            tuple(image.to(device) for image in others),
            torch.empty(0, dtype=torch.int64, device=device),
        )

    return following


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("overrides", nargs="*", help="as for sslbench: algorithm=..., dataset=..., ...")
    parser.add_argument("--steps", type=int, default=30, help="steps a round (default 30)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds a side (default 5)")
    parser.add_argument("--workers", type=int, default=2, help="processes of each DataLoader (default 2)")
    arguments = parser.parse_args()

    config.register()
    with initialize_config_dir(str(config.conf_dir()), version_base="1.3"):
        composed = compose("config", overrides=arguments.overrides, return_hydra_config=True)
    choices = composed.hydra.runtime.choices
    with open_dict(composed):
        del composed["hydra"]
    settings = config.from_config(composed, choices, arguments.overrides)

    device = pick_device(settings.device)
    prepare_process(settings)
    data = prepare_data(settings, device)
    arrays: ImageArrays = build(settings.dataset, "dataset")
    autocast = pick_precision(settings.precision, device)

    def side(with_loaders: bool) -> Callable[[int], float]:
        algorithm: AnyAlgorithm = build(settings.algorithm, "algorithm")
        models = build_models(settings, algorithm, data, device)
        views = stages_of(algorithm)[0].views
        source = BatchSource(
            data.train,
            data.targets,
            data.split,
            views,
            settings.batch.labelled,
            settings.batch.unlabelled,
            settings.seed,
            device,
        )
        state = TrainingState(algorithm, models, build(settings.optimizer, "optimizer"), source)
        following = source.next
        if with_loaders:
            following = loader_batches(data, arrays, views, settings, arguments.workers, device)
        progress = Progress(torch.zeros((), device=device), settings.steps)

        def steps_per_second(steps: int) -> float:
            started = time.perf_counter()
            for _ in range(steps):
                training_step(state, following(), progress, autocast)
            if device.type == "cuda":
                torch.cuda.synchronize()
            return steps / (time.perf_counter() - started)

        return steps_per_second

    sides = {"device-resident": side(with_loaders=False), "DataLoader": side(with_loaders=True)}
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for measure in sides.values():
        measure(arguments.steps)  # the first round starts workers and picks kernels
    for _ in range(arguments.rounds):
        for name, measure in sides.items():
            rates[name].append(measure(arguments.steps))
    what = " ".join(arguments.overrides) or "defaults"
    print(f"{what}; {device}, {arguments.rounds} rounds of {arguments.steps} steps")
    for name, measured in rates.items():
        middle = statistics.median(measured)
        print(f"{name:<16}{middle:8.1f} steps/s   (rounds: {min(measured):.1f} to {max(measured):.1f})")
    medians = [statistics.median(measured) for measured in rates.values()]
    print(f"ratio           {medians[0] / medians[1]:8.2f}")


if __name__ == "__main__":
    main()
