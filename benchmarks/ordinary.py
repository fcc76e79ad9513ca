"""The ordinary way to feed the same steps: what tutorials of torchvision write.

A `Dataset` that makes a PIL image of each array, as torchvision's own do, and transforms it image by image;
two `DataLoader`s with worker processes; networks in the contiguous layout; torch's own choice of optimizer
code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, RandomSampler
from torchvision import transforms

from sslbench.config.schema import Settings
from sslbench.core import Batch, View, Views
from sslbench.data.arrays import ImageArrays
from sslbench.data.splits import Indices, make_split
from sslbench.data.views import ImageTransform


def strong_transforms(
    look: ImageTransform | None, height: int, width: int, probability: float, channels: int = 3
) -> transforms.Compose:
    """A strong view as `conf/strong/randaugment.yaml` has it; without `look`, its two operations alone."""
    one = transforms.RandAugment(num_ops=1, magnitude=15)
    twice = [transforms.RandomApply([one], p=probability)] * 2
    if look is None:
        return transforms.Compose(twice)
    square = (1 / 4, 1 / 4)  # of the area: half of each side
    cutout = transforms.RandomErasing(p=1.0, scale=square, ratio=(1.0, 1.0))
    return transforms.Compose([*_weak(look, height, width), *twice, *_tail(look, channels), cutout])


def _name(view: View) -> str:
    return view if isinstance(view, str) else "strong"


def _weak(look: ImageTransform, height: int, width: int) -> list[nn.Module]:
    crop = look.crop
    weak = [transforms.RandomCrop((height, width), crop, padding_mode="reflect")] if crop else []
    return weak + ([transforms.RandomHorizontalFlip()] if look.flip else [])


def _tail(look: ImageTransform, channels: int) -> list[Callable[..., Tensor]]:
    mean, std = (list(values) * (channels // len(values)) for values in (look.mean, look.std))
    return [transforms.ToTensor(), transforms.Normalize(mean, std)]


class PerImageViews(Dataset[tuple[tuple[Tensor, ...], int]]):
    """Images of `positions`, each made a PIL image and transformed once for every view."""

    def __init__(
        self,
        images: NDArray[np.uint8],
        labels: NDArray[np.int64],
        positions: Indices,
        views: tuple[View, ...],
        look: ImageTransform,
    ) -> None:
        self.images, self.labels, self.positions, self.views = images, labels, positions, views
        height, width, channels = images.shape[1:]
        weak, tail = _weak(look, height, width), _tail(look, channels)
        noise = [transforms.Lambda(lambda x: x + look.noise * torch.randn_like(x))] if look.noise else []
        self.transforms = {
            "weak": transforms.Compose([*weak, *tail, *noise]),
            "clean": transforms.Compose(tail),
            "strong": strong_transforms(look, height, width, 0.5, channels),
        }

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, item: int) -> tuple[tuple[Tensor, ...], int]:
        position = int(self.positions[item])
        array = self.images[position]
        image = Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)
        return tuple(self.transforms[_name(view)](image) for view in self.views), int(self.labels[position])


def _endless(dataset: PerImageViews, size: int, workers: int) -> Iterator[tuple[list[Tensor], Tensor]]:
    sampler = RandomSampler(dataset, replacement=True, num_samples=2**40)
    pinned = torch.cuda.is_available()
    yield from DataLoader(
        dataset,
        size,
        sampler=sampler,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=pinned,
    )


def loader_batches(
    arrays: ImageArrays,
    look: ImageTransform,
    views: Views,
    settings: Settings,
    workers: int,
    device: torch.device,
) -> Callable[[], Batch]:
    """A function that gives the next batch on `device`, from loaders with `workers` processes each."""
    images, labels = arrays.x_train, arrays.y_train
    split = make_split(labels, arrays.num_classes, settings.num_labels, settings.num_valid, 0, True)

    def of(positions: Indices, names: tuple[View, ...], size: int) -> Iterator[tuple[list[Tensor], Tensor]]:
        return _endless(PerImageViews(images, labels, positions, names, look), size, workers)

    labelled = of(split.labelled, views.labelled, settings.batch.labelled)
    unlabelled = of(split.unlabelled, views.unlabelled, settings.batch.unlabelled)

    def following() -> Batch:
        known, targets = next(labelled)
        others: list[Tensor] = next(unlabelled)[0] if views.unlabelled else []
        return Batch(
            tuple(image.to(device, non_blocking=True) for image in known),
            targets.to(device, non_blocking=True),
            tuple(image.to(device, non_blocking=True) for image in others),
            *[torch.empty(0, dtype=torch.int64, device=device)] * 2,
        )

    return following


def ordinary_models(models: dict[str, nn.Module]) -> dict[str, nn.Module]:
    """The networks in the layout that they have unless somebody asks for another."""
    return {name: model.to(memory_format=torch.contiguous_format) for name, model in models.items()}
