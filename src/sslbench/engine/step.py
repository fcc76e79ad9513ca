"""One training step, and the two ways to carry out many: one by one, or recorded once and replayed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, final

import torch
from torch import Tensor
from torch.optim import Optimizer

from sslbench.core import Batch, Progress, StepOutput
from sslbench.engine.state import TrainingState
from sslbench.errors import UserError

#: Steps of a stage that are done one by one before one is recorded: kernels are chosen in them, and
#: optimizers make their state.
WARM_UP = 3

#: Carries out the next step.
Stepper = Callable[[], None]


def forward_and_backward(
    state: TrainingState, batch: Batch, progress: Progress, autocast: torch.dtype | None
) -> StepOutput:
    """The loss of a batch, and its gradients in place of those of the step before."""
    # Without the cache: it would hand the weight casts of a pass without gradient, which have none, to a
    # later pass that needs one.
    with torch.autocast(
        progress.step.device.type, dtype=autocast, enabled=autocast is not None, cache_enabled=False
    ):
        output = state.algorithm.step(state.networks, batch, progress)
    for optimizer in state.optimizers:
        optimizer.zero_grad(set_to_none=True)
    if output.rivals:
        # A rival's loss reaches through the trained modules, and theirs through it: each gets its own alone.
        losses = [(state.plan.trained, output.loss), *(((n,), loss) for n, loss in output.rivals.items())]
        for names, loss in losses:
            torch.autograd.backward(loss, inputs=state.parameters_of(*names), retain_graph=True)
    else:
        torch.autograd.backward(output.loss)
    return output


def training_step(
    state: TrainingState, batch: Batch, progress: Progress, autocast: torch.dtype | None
) -> StepOutput:
    """One update of the trained modules, and of their rivals at the same time. Never waits for the device."""
    output = forward_and_backward(state, batch, progress, autocast)
    for optimizer in state.optimizers:
        optimizer.step()
    state.algorithm.after_step(state.models, progress)
    return output


def set_rates(optimizers: Sequence[Optimizer], factor: float) -> None:
    """Set the learning rates to `factor` times those that the optimizers began with."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            rate = group["initial_lr"] * factor
            if isinstance(group["lr"], Tensor):  # where a recorded step finds it
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate


def _on_device(
    state: TrainingState, drawn: tuple[Tensor, Tensor], progress: Progress, autocast: torch.dtype | None
) -> None:
    """All of a step that happens on the device, from the positions of its images on."""
    # What the output holds of the graph must not live on beside the next step's: it ends with this function.
    output = training_step(state, state.batches.cut(*drawn), progress, autocast)
    state.meter.add(output, progress.step)
    progress.step.add_(1)


def one_by_one(state: TrainingState, progress: Progress, autocast: torch.dtype | None) -> Stepper:
    """Every kernel of every step is launched by Python."""
    return lambda: _on_device(state, state.batches.draw(), progress, autocast)


class Recorder(Protocol):
    """Records what a function does on a device."""

    def warm_up(self, function: Callable[[], None]) -> None:
        """Carry out `function` where it would be recorded."""

    def record(
        self, function: Callable[[], None], generators: Sequence[torch.Generator]
    ) -> Callable[[], object]:
        """Record `function` without carrying it out; returns what replays it, on the same tensors."""


@final
class CudaGraphs:
    """Whole steps as CUDA graphs: one launch in place of thousands."""

    def __init__(self) -> None:
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]

    def warm_up(self, function: Callable[[], None]) -> None:
        """See `Recorder`."""
        current = torch.cuda.current_stream()
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            function()
        current.wait_stream(self._stream)

    def record(
        self, function: Callable[[], None], generators: Sequence[torch.Generator]
    ) -> Callable[[], object]:
        """See `Recorder`."""
        graph = torch.cuda.CUDAGraph()
        for generator in generators:  # torch's global one needs no telling
            graph.register_generator_state(generator)
        with torch.cuda.graph(graph, stream=self._stream):
            function()
        return graph.replay


@final
class Replayed:
    """Steps of one stage, recorded once and replayed; the first `WARM_UP` of them are done one by one.

    What changes from step to step lies in tensors that keep their place: the positions of the images, the
    learning rates, the count of steps, and the states of the random streams. The host fills the first two.

    Args:
        state: at any step of the stage.
        progress: of the stage.
        autocast: the type of the forward passes, or None for float32.
        recorder: of the device.

    Raises:
        UserError: the optimizer cannot be recorded.
    """

    def __init__(
        self, state: TrainingState, progress: Progress, autocast: torch.dtype | None, recorder: Recorder
    ) -> None:
        self._state, self._progress, self._autocast = state, progress, autocast
        self._recorder = recorder
        self._warm = 0
        self._drawn: tuple[Tensor, Tensor] | None = None
        self._replay: Callable[[], object] = lambda: None
        for optimizer in state.optimizers:
            for group in optimizer.param_groups:
                if not group.get("fused"):
                    raise UserError("graph=true needs optimizer.fused=true, which adam, adamw and sgd have")
                group["lr"] = torch.tensor(float(group["lr"]), device=progress.step.device)

    def __call__(self) -> None:
        """Carry out the next step."""
        drawn = self._state.batches.draw()
        if self._warm < WARM_UP:
            self._recorder.warm_up(lambda: _on_device(self._state, drawn, self._progress, self._autocast))
            self._warm += 1
            return
        if self._drawn is None:
            self._record((drawn[0].clone(), drawn[1].clone()))
        assert self._drawn is not None
        for place, positions in zip(self._drawn, drawn, strict=True):
            place.copy_(positions)
        self._replay()

    def _record(self, places: tuple[Tensor, Tensor]) -> None:
        for optimizer in self._state.optimizers:
            for group in optimizer.param_groups:
                if "capturable" in group:
                    group["capturable"] = True  # earlier, it would warn in each step done one by one
        try:
            self._replay = self._recorder.record(
                lambda: _on_device(self._state, places, self._progress, self._autocast),
                self._state.batches.generators,
            )
        except RuntimeError as error:  # of a method that hands a number to Python, say
            reason = " ".join(str(error).split()[:30])
            raise UserError(f"the step cannot be recorded ({reason}): set graph=false") from error
        self._drawn = places
