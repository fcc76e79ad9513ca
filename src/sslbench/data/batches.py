"""Batches for the step loop, made on the training device."""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor

from sslbench.core import Batch, Views
from sslbench.data.order import IndexStream
from sslbench.data.splits import Split
from sslbench.data.views import DeviceImages
from sslbench.streams import stream

VIEW_NAMES = ("weak", "clean")


@final
class BatchSource:
    """Draws the batches of one run.

    Labelled and unlabelled images have random streams of their own, so that two algorithms with the same
    seed see the same labelled batches, whatever else they draw.

    Args:
        images: the training images.
        targets: class indices of the training images, int64 ``[N]``; only labelled positions are read.
        split: which positions are labelled and unlabelled.
        views: what the algorithm asks for.
        labelled_size: labelled images a batch.
        unlabelled_size: unlabelled images a batch.
        seed: the run's seed.
        device: the training device.

    Raises:
        ValueError: the algorithm asks for a view that does not exist.
    """

    def __init__(
        self,
        images: DeviceImages,
        targets: Tensor,
        split: Split,
        views: Views,
        labelled_size: int,
        unlabelled_size: int,
        seed: int,
        device: torch.device,
    ) -> None:
        for name in (*views.labelled, *views.unlabelled):
            if name not in VIEW_NAMES:
                raise ValueError(f"it asks for the view '{name}': there are {', '.join(VIEW_NAMES)}")
        self._images, self._targets, self._views = images, targets, views
        self._labelled = IndexStream(
            torch.from_numpy(split.labelled), labelled_size, stream(seed, "order/labelled"), device
        )
        self._unlabelled = IndexStream(
            torch.from_numpy(split.unlabelled), unlabelled_size, stream(seed, "order/unlabelled"), device
        )
        self._chance = {
            "labelled": stream(seed, "augmentation/labelled", device),
            "unlabelled": stream(seed, "augmentation/unlabelled", device),
        }
        self.device = device
        self.images_per_step = labelled_size + (unlabelled_size if views.unlabelled else 0)

    def _view(self, name: str, index: Tensor, chance: torch.Generator) -> Tensor:
        return self._images.weak(index, chance) if name == "weak" else self._images.clean(index)

    def next(self) -> Batch:
        """The next batch, with the declared views."""
        index = self._labelled.next()
        labelled = tuple(self._view(v, index, self._chance["labelled"]) for v in self._views.labelled)
        targets = self._targets[index]
        index = self._unlabelled.next() if self._views.unlabelled else index[:0]
        unlabelled = tuple(self._view(v, index, self._chance["unlabelled"]) for v in self._views.unlabelled)
        return Batch(labelled, targets, unlabelled, index)

    def state_dict(self) -> dict[str, Any]:
        """The place in every stream."""
        return {
            "labelled": self._labelled.state_dict(),
            "unlabelled": self._unlabelled.state_dict(),
            "chance": {name: generator.get_state() for name, generator in self._chance.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken."""
        self._labelled.load_state_dict(state["labelled"])
        self._unlabelled.load_state_dict(state["unlabelled"])
        for name, generator in self._chance.items():
            generator.set_state(state["chance"][name].cpu())
