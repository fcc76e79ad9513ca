"""A stand-in for an accelerator: it computes on the CPU, and keeps the rules of a device of its own.

It shows what would go wrong on a GPU where there is none. As on CUDA, an operation on tensors of host and
device is refused. While `watching`, each operation is counted that would make the host wait for the device,
or that copies between the two, by the line of the package that it comes from:

    with watching() as seen:
        step()
    assert not seen

It cannot show what only CUDA does: the branches on ``device.type == "cuda"``, streams, graphs, the order of
sums. It has no generators of its own: give it those of the CPU. A run on it then equals one on the CPU bit
for bit.

The import registers the device as PyTorch's "PrivateUse1" backend. That can be done once a process, and
must be done before the first backward pass, when autograd starts its threads. Import this module at the top
of a test module: pytest collects all of them before it runs a test.
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor
from torch.utils import backend_registration
from torch.utils._pytree import tree_leaves, tree_map, tree_map_only

import sslbench

CPU = torch.device("cpu")
_NAME = "standin"
_PACKAGE = f"{Path(sslbench.__file__).parent}/"

#: Operations whose result, or its size, the host reads from the device.
_WAITS = frozenset(
    [
        *("_local_scalar_dense", "is_nonzero", "nonzero", "masked_select", "equal", "allclose", "bincount"),
        *("_unique2", "unique_dim", "unique_consecutive", "repeat_interleave", "_linalg_check_errors"),
    ]
)
_COPIES = frozenset(("copy_", "_to_copy"))
#: Operations that make a tensor from none; the others of this kind are made of these.
_FACTORIES = (
    *("empty.memory_format", "empty_strided", "arange", "arange.start", "arange.start_step"),
    *("randperm", "randperm.generator", "eye", "eye.m"),
)

_seen: Counter[str] | None = None


@contextmanager
def watching() -> Iterator[Counter[str]]:
    """Count waits and copies while the block lasts, each as what happens and where."""
    global _seen
    before, _seen = _seen, Counter()
    try:
        yield _seen
    finally:
        _seen = before


def _note(what: str, name: str) -> None:
    if _seen is not None:
        stack = traceback.extract_stack()
        # A backward pass has a thread of its own, and no line of the package in it.
        here = next((f for f in reversed(stack) if f.filename.startswith(_PACKAGE)), None)
        place = (
            f"{here.filename.removeprefix(_PACKAGE)}:{here.lineno}" if here else "a place outside the package"
        )
        _seen[f"{name} {what} at {place}"] += 1


@final
class StandIn(Tensor):
    """A tensor on the stand-in device.

    Attributes:
        inner: the CPU tensor with its content.
    """

    inner: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: Tensor) -> StandIn:
        made: StandIn = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            inner.size(),
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            layout=inner.layout,
            device=DEVICE,
        )
        made.inner = inner
        return made

    def __repr__(self) -> str:
        return f"StandIn({self.inner})"

    def tolist(self) -> Any:
        """As of any device, by way of the host; PyTorch refuses it for a class of one's own."""
        return self.cpu().tolist()

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Saved as a CPU tensor: a checkpoint is loaded to the CPU, whatever device it was made on."""
        return self.detach().cpu().__reduce_ex__(protocol)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        target = kwargs.get("device")
        _judge(func.overloadpacket.__name__, args, kwargs)
        if target is not None:
            kwargs["device"] = CPU
        result = func(*tree_map(_content, args), **tree_map(_content, kwargs))
        if target is not None and target.type == "cpu":
            return result
        # An operation in place gives back what it was given.
        given = {id(_content(leaf)): leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}

        def on_device(leaf: Any) -> Any:
            return given[id(leaf)] if id(leaf) in given else cls(leaf)

        return tree_map_only(Tensor, on_device, result)


def _content(leaf: Any) -> Any:
    return leaf.inner if isinstance(leaf, StandIn) else leaf


def _on_host(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor) and not isinstance(leaf, StandIn)]


def _judge(name: str, args: Any, kwargs: dict[str, Any]) -> None:
    """Count what the operation would cost, or refuse it.

    Raises:
        RuntimeError: its tensors are on two devices.
    """
    target = kwargs.get("device")
    if name in _COPIES:
        to_host = target.type == "cpu" if target is not None else not isinstance(args[0], StandIn)
        if to_host:
            _note("copies to the host", name)
        elif _on_host(args):
            _note("copies to the device", name)
        return
    if name in _WAITS:
        _note("waits for the device", name)
    if name.startswith(("index", "_index_put")) and isinstance(args[1], list | tuple):
        indices, args = args[1], (args[0], *args[2:])
        if any(isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8) for index in indices):
            _note("by a mask waits for the device", name)
        elif _on_host(indices):
            _note("by positions on the host copies to the device", name)
    # A single number on the host goes along with the operation.
    if any(tensor.dim() for tensor in _on_host((args, kwargs))):
        raise RuntimeError(f"{name}: tensors are on two devices, {DEVICE} and cpu")


class _Module(backend_registration._DummyBackendModule):
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]

    def get_rng_state(self, device: torch.device | int = 0) -> Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, state: Tensor, device: torch.device | int = 0) -> None:
        torch.set_rng_state(state)


def _register() -> torch.library.Library:
    backend_registration._setup_privateuseone_for_python_backend(_NAME, _Module())
    library = torch.library.Library("aten", "IMPL")
    for factory in _FACTORIES:
        base, _, overload = factory.partition(".")
        operation = getattr(getattr(torch.ops.aten, base), overload or "default")

        def make(*args: Any, operation: Any = operation, **kwargs: Any) -> StandIn:
            return StandIn(operation(*args, **kwargs | {"device": CPU}))

        library.impl(factory, make, "PrivateUse1")
    library.impl("_copy_from", _copy_from, "PrivateUse1")
    return library


def _copy_from(source: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:
    """Where PyTorch copies out of sight of `StandIn`: in ``torch.tensor(..., device=...)``."""
    _judge("copy_", (target, source), {})
    _content(target).copy_(_content(source))
    return target


_library = _register()  # the operations are known as long as it lives
DEVICE = torch.device(f"{_NAME}:0")
