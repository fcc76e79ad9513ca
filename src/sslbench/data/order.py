"""The order in which images are drawn: endless shuffled passes over a pool."""

from typing import Any, final

import torch
from torch import Tensor

_BLOCK = 4096  # positions drawn at once, at least: even of a small pool, one copy serves many steps


@final
class IndexStream:
    """Draws `batch_size` positions a call from `pool`, each once before any comes again.

    The permutations are drawn on the CPU whatever the training device, so that CPU and GPU runs see the
    same images in the same order.

    Args:
        pool: positions to draw from, int64 ``[n]``, n at least 1.
        batch_size: positions a call.
        generator: a CPU generator, this stream's own.
        device: where the drawn positions are wanted.
    """

    def __init__(
        self, pool: Tensor, batch_size: int, generator: torch.Generator, device: torch.device
    ) -> None:
        self.pool = pool.cpu()
        self._batch_size = batch_size
        self.generator = generator
        self._device = device
        self._passes = -(-max(_BLOCK, batch_size) // len(pool))
        self._block = self._draw()
        self._position = 0

    def _draw(self) -> Tensor:
        self._block_start = self.generator.get_state()
        passes = [torch.randperm(len(self.pool), generator=self.generator) for _ in range(self._passes)]
        block = self.pool[torch.cat(passes)]
        if self._device.type == "cuda":
            block = block.pin_memory()  # or the copy would wait until the GPU's queue is empty
        return block.to(self._device, non_blocking=True)

    def next(self) -> Tensor:
        """The next positions, int64 ``[batch_size]``, on the training device."""
        end = self._position + self._batch_size
        if end <= len(self._block):
            drawn = self._block[self._position : end]
            self._position = end
            return drawn
        head = self._block[self._position :]
        self._block = self._draw()
        self._position = self._batch_size - len(head)
        return torch.cat([head, self._block[: self._position]])

    def state_dict(self) -> dict[str, Any]:
        """Enough to continue from here: the generator before this block, and the place in the block."""
        return {"block_start": self._block_start, "position": self._position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state`, which a stream over the same pool and batch size gave."""
        self.generator.set_state(state["block_start"])
        self._block = self._draw()
        self._position = int(state["position"])
