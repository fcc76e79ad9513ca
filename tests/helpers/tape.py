"""Records what a function does to tensors on the CPU, and does it again: what a CUDA graph does on a GPU.

Only operations on tensors are recorded. Whatever Python worked out meanwhile (a number, a branch, a shape) is
fixed in the record, as it is in a graph, so that a replay shows whether a step can be recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

#: What hands a number to Python, or takes one from it: a graph cannot contain it.
REFUSED = (
    *("aten::_local_scalar_dense", "aten::nonzero", "aten::is_nonzero", "aten::masked_select"),
    "aten::lift_fresh",  # of torch.tensor(...), which would be a copy from the host
)


def tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


class _Taping(TorchDispatchMode):
    """Keeps the operations, and what there was in the tensors from before that they write to."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, list[Tensor]]] = []
        self.before: dict[int, tuple[Tensor, Tensor]] = {}
        self._own: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        assert func._schema.name not in REFUSED, f"{func} goes by way of the host"
        if func._schema.name.startswith("aten::index"):
            masks = [leaf for leaf in tensors(args[1]) if leaf.dtype == torch.bool]
            assert not masks, "a boolean mask asks the device how much it lets through"
        for tensor in self._written(func, args, kwargs):
            storage = tensor.untyped_storage().data_ptr()
            if storage not in self._own and storage not in self.before:
                base = tensor._base if tensor._base is not None else tensor
                self.before[storage] = base.detach(), base.detach().clone()
        result = func(*args, **kwargs)
        if not func.is_view:
            made = tensors(result)
            self._own |= {tensor.untyped_storage().data_ptr() for tensor in made} - set(self.before)
            self.operations.append((func, args, kwargs, made))
        return result

    @staticmethod
    def _written(func: Any, args: Any, kwargs: Any) -> Iterator[Tensor]:
        for place, argument in enumerate(func._schema.arguments):
            value = args[place] if place < len(args) else kwargs.get(argument.name)
            # The running statistics are written to without a word of it.
            if (argument.alias_info and argument.alias_info.is_write) or argument.name.startswith("running_"):
                yield from tensors(value)


class Tape:
    """A `sslbench.engine.step.Recorder` for the CPU. As with a graph, recording changes nothing.

    Attributes:
        recorded: how often `record` was called.
        replayed: how often a record was replayed.
    """

    def __init__(self) -> None:
        self.recorded = self.replayed = 0

    def warm_up(self, function: Callable[[], None]) -> None:
        function()

    def record(
        self, function: Callable[[], None], generators: Sequence[torch.Generator]
    ) -> Callable[[], object]:
        self.recorded += 1
        known = [torch.default_generator, *generators]
        states = [generator.get_state() for generator in known]
        with _Taping() as tape:
            function()
        for generator, state in zip(known, states, strict=True):
            generator.set_state(state)
        for tensor, content in tape.before.values():
            tensor.copy_(content)
        seeds = {generator.initial_seed() for generator in known}  # each has its own; objects differ
        for func, args, kwargs, _ in tape.operations:
            drawn = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Generator)]
            assert seeds >= {leaf.initial_seed() for leaf in drawn}, (
                f"{func} draws from a generator that is not registered"
            )

        def replay() -> None:
            self.replayed += 1
            with torch.no_grad():
                for func, args, kwargs, made in tape.operations:
                    for place, result in zip(made, tensors(func(*args, **kwargs)), strict=True):
                        if place is not result:
                            place.copy_(result)

        return replay
