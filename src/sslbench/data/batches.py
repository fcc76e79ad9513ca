"""Batches for the step loop, made on the training device."""

from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from sslbench.core import Batch, View, Views
from sslbench.data.order import IndexStream
from sslbench.data.splits import Split
from sslbench.data.views import DeviceImages, ImageTransform
from sslbench.seeding import stream

VIEW_NAMES = ("weak", "clean")


def check_views(views: Views, transform: ImageTransform) -> None:
    """Raise `ValueError` for a view that does not exist, or that images so transformed cannot have."""
    for view in (*views.labelled, *views.unlabelled):
        if not isinstance(view, str):
            if transform.preprocess != "none":
                raise ValueError("strong views need pixels: set dataset.images.preprocess=none")
            view.within(transform.operations)
        elif view not in VIEW_NAMES:
            raise ValueError(f"it asks for the view '{view}': there are {', '.join(VIEW_NAMES)}")


def _streams_of(part: str, views: tuple[View, ...]) -> list[str]:
    """The random stream of each view of a part, by position; the first one's bears the name of the part."""
    return [f"augmentation/{part}" + (f"/{position}" if position else "") for position in range(len(views))]


@final
class BatchSource:
    """Draws the batches of one run.

    The orders of labelled and of unlabelled images have random streams of their own, and so has the
    augmentation of each view. Two algorithms with the same seed therefore see the same labelled batches, and
    the same first view of the unlabelled images, whatever other views they declare.

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
        check_views(views, images.transform)
        self._images, self._targets, self._views = images, targets, views
        self._sizes = (labelled_size, unlabelled_size)
        self._all_unlabelled = torch.from_numpy(split.unlabelled)
        order, pool_order = stream(seed, "order/labelled"), stream(seed, "order/unlabelled")
        self._labelled = IndexStream(torch.from_numpy(split.labelled), labelled_size, order, device)
        self._unlabelled = IndexStream(self._all_unlabelled, unlabelled_size, pool_order, device)
        self._pool: Tensor | None = None
        self._none = self._all_unlabelled[:0].to(device)
        self._seed = seed
        self._generators: dict[str, torch.Generator] = {}
        self.device = device
        self._add_generators(views)

    @property
    def images_per_step(self) -> int:
        """Images that a batch takes from the data, each counted once however many views it has."""
        drawn = (self._views.labelled, self._views.unlabelled)
        return sum(size for size, views in zip(self._sizes, drawn, strict=True) if views)

    def change(self, views: Views, pool: Tensor | None) -> None:
        """Draw other views, and unlabelled images from `pool` alone: a stage begins.

        The pool is positions in the training set, int64 ``[n]``; None for all unlabelled images.
        """
        self._views = views
        self._add_generators(views)
        self._pool = None if pool is None else pool.cpu()
        positions = self._all_unlabelled if self._pool is None else self._pool
        order = self._unlabelled.generator
        self._unlabelled = IndexStream(positions, self._sizes[1], order, self.device)

    @property
    def positions(self) -> Tensor:
        """Where batches are drawn from: positions, each once, sorted, int64 ``[n]``, on the CPU."""
        orders = ((self._labelled, self._views.labelled), (self._unlabelled, self._views.unlabelled))
        drawn = torch.cat([order.pool for order, views in orders if views])
        return torch.from_numpy(np.unique(drawn.numpy()))

    def clean(self, index: Tensor) -> Tensor:
        """The images at `index` ``[n]`` as evaluation sees them: ``[n, C, H, W]``."""
        return self._images.clean(index.to(self.device))

    def _add_generators(self, views: Views) -> None:
        """Make the generators of `views` that do not exist yet."""
        names = (*_streams_of("labelled", views.labelled), *_streams_of("unlabelled", views.unlabelled))
        for name in names:
            if name not in self._generators:
                self._generators[name] = stream(self._seed, name, self.device)

    @property
    def generators(self) -> tuple[torch.Generator, ...]:
        """Those that `cut` draws from, of the training device."""
        return tuple(self._generators.values())

    def draw(self) -> tuple[Tensor, Tensor]:
        """Positions of the next labelled and unlabelled images, int64 ``[B]`` and ``[U]``.

        Empty where the stage has no such views.
        """
        return (
            self._labelled.next() if self._views.labelled else self._none,
            self._unlabelled.next() if self._views.unlabelled else self._none,
        )

    def _cut(self, part: str, views: tuple[View, ...], index: Tensor) -> tuple[Tensor, ...]:
        generators = (self._generators[name] for name in _streams_of(part, views))
        return tuple(
            self._images.view(view, index, generator)
            for view, generator in zip(views, generators, strict=True)
        )

    def cut(self, labelled: Tensor, unlabelled: Tensor) -> Batch:
        """The batch of the images at these positions, with the declared views; all on the device."""
        return Batch(
            labelled=self._cut("labelled", self._views.labelled, labelled),
            targets=self._targets[labelled],
            unlabelled=self._cut("unlabelled", self._views.unlabelled, unlabelled),
            labelled_index=labelled,
            unlabelled_index=unlabelled,
        )

    def next(self) -> Batch:
        """The next batch."""
        return self.cut(*self.draw())

    def state_dict(self) -> dict[str, Any]:
        """The place in every random stream."""
        return {
            "pool": self._pool,
            "labelled": self._labelled.state_dict(),
            "unlabelled": self._unlabelled.state_dict(),
            "generators": {name: generator.get_state() for name, generator in self._generators.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken, with the views of the same stage."""
        self.change(self._views, state["pool"])
        self._labelled.load_state_dict(state["labelled"])
        self._unlabelled.load_state_dict(state["unlabelled"])
        for name, place in state["generators"].items():  # an earlier stage may have had more views
            self._generators.setdefault(name, stream(self._seed, name, self.device)).set_state(place.cpu())
