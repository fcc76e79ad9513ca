"""One training step, and the two ways to carry out many: eagerly, or captured once and replayed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, final

import torch
from torch import Tensor, nn

from sslbench.algorithms.protocol_checks import check_output
from sslbench.core import Average, Batch, Progress, StepOutput
from sslbench.engine.state import TrainingState
from sslbench.errors import UserError
from sslbench.models.ema import update_average, warmed_up

#: Eager steps of a stage before one is captured: in them kernels are chosen, and optimizers make their state.
WARM_UP = 3

#: Carries out the next step.
NextStep = Callable[[], None]


def training_step(
    state: TrainingState, batch: Batch, progress: Progress, autocast: torch.dtype | None
) -> StepOutput:
    """The updates of one step, one after the other, then the averages. Never waits for the device.

    Returns:
        The losses, terms and monitors of all updates; where two updates share a name, those of the later. Its
        pseudo-labels are those of the last update that has some.

    Raises:
        UserError: the algorithm's step gave something else than outputs with losses.
    """
    losses: dict[str, Tensor] = {}
    terms: dict[str, Tensor] = {}
    monitors: dict[str, Tensor] = {}
    pseudo_labels = None
    for output in step_outputs(state, batch, progress, autocast):
        back_propagate(state, output)
        for name in output.losses:
            state.optimizers[name].step()
        losses |= output.losses
        terms |= output.terms
        monitors |= output.monitors
        pseudo_labels = output.pseudo_labels or pseudo_labels
    if not losses:
        raise UserError(f"algorithm: {type(state.algorithm).__name__}.step gave no loss")
    move_averages(state.models, state.current_stage.averages, progress)
    return StepOutput(losses, terms, monitors, pseudo_labels)


def move_averages(
    models: Mapping[str, nn.Module], averages: Mapping[str, Average], progress: Progress
) -> None:
    """Move each of `averages` towards the module that it averages."""
    for name, average in averages.items():
        update_average(models[name], models[average.of], warmed_up(average.decay, progress.step))


def step_outputs(
    state: TrainingState, batch: Batch, progress: Progress, autocast: torch.dtype | None
) -> Iterator[StepOutput]:
    """What the algorithm's step returns or yields; autocast is off again whenever an output is handed on."""

    def autocasting() -> torch.autocast:
        # Without the cache: it would hand the weight casts of a pass without gradient, which have none, to a
        # later pass that needs one, and old weights to the passes after an update.
        device = progress.step.device.type
        return torch.autocast(device, dtype=autocast, enabled=autocast is not None, cache_enabled=False)

    with autocasting():
        step = state.algorithm.step(state.step_models, batch, progress)
    outputs = step if isinstance(step, Iterator) else iter((step,))
    while True:
        try:
            with autocasting():
                output = next(outputs)
        except StopIteration:
            return
        yield check_output(state.algorithm, output, state.optimizers)


def back_propagate(state: TrainingState, output: StepOutput) -> None:
    """Take the gradients of the losses, in place of those of the update before."""
    for name in output.losses:
        state.optimizers[name].zero_grad(set_to_none=True)
    several = len(state.optimizers) > 1
    for name, loss in output.losses.items():
        # A loss may reach through the modules of another optimizer, as that of a GAN's generator does through
        # the discriminator: each optimizer gets the gradients of its own loss alone.
        inputs = state.parameters_of(name) if several else None
        torch.autograd.backward(loss, inputs=inputs, retain_graph=len(output.losses) > 1)


def set_rates(param_groups: Sequence[dict[str, Any]], factor: float) -> None:
    """Set the learning rates of `param_groups` to `factor` times those that they began with."""
    for group in param_groups:
        rate = group["initial_lr"] * factor
        if isinstance(group["lr"], Tensor):  # where a captured step finds it
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def _on_device(
    state: TrainingState, drawn: tuple[Tensor, Tensor], progress: Progress, autocast: torch.dtype | None
) -> None:
    """All of a step that happens on the device, from the positions of its images on."""
    # The output holds the graph of the step, which must not live on beside that of the next.
    batch = state.batches.cut(*drawn)
    output = training_step(state, batch, progress, autocast)
    state.meter.add(output, progress.step)
    if output.pseudo_labels and state.pseudo_label_meter:
        state.pseudo_label_meter.add(output.pseudo_labels, batch.unlabelled_index)
    progress.step.add_(1)


def eager_steps(state: TrainingState, progress: Progress, autocast: torch.dtype | None) -> NextStep:
    """Steps in which Python launches every kernel."""
    return lambda: _on_device(state, state.batches.draw(), progress, autocast)


class Recorder(Protocol):
    """Records what a function does on a device."""

    def warm_up(self, function: Callable[[], None]) -> None:
        """Carry out `function` where it will be recorded."""

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
        current = torch.cuda.current_stream()
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            function()
        current.wait_stream(self._stream)

    def record(
        self, function: Callable[[], None], generators: Sequence[torch.Generator]
    ) -> Callable[[], object]:
        graph = torch.cuda.CUDAGraph()
        for generator in generators:  # torch registers its global one itself
            graph.register_generator_state(generator)
        with torch.cuda.graph(graph, stream=self._stream):
            function()
        return graph.replay


@final
class CapturedSteps:
    """Steps of one stage, captured once and replayed; the first `WARM_UP` of them are eager.

    What changes from step to step lies in tensors that keep their place: the positions of the images, the
    learning rates, the count of steps, and the states of the random streams. The host fills the first two.

    Raises:
        UserError: the optimizer cannot be captured.
    """

    def __init__(
        self, state: TrainingState, progress: Progress, autocast: torch.dtype | None, recorder: Recorder
    ) -> None:
        self._state, self._progress, self._autocast = state, progress, autocast
        self._recorder = recorder
        self._warm = 0
        self._drawn: tuple[Tensor, Tensor] | None = None
        self._replay: Callable[[], object] = lambda: None
        for group in state.param_groups:
            if not group.get("fused"):
                raise UserError("graph=true needs optimizer.fused=true, which adam, adamw and sgd have")
            group["lr"] = torch.tensor(float(group["lr"]), device=progress.step.device)

    def __call__(self) -> None:
        drawn = self._state.batches.draw()
        if self._warm < WARM_UP:
            self._recorder.warm_up(lambda: _on_device(self._state, drawn, self._progress, self._autocast))
            self._warm += 1
            return
        if self._drawn is None:
            self._capture((drawn[0].clone(), drawn[1].clone()))
        assert self._drawn is not None
        for place, positions in zip(self._drawn, drawn, strict=True):
            place.copy_(positions)
        self._replay()

    def _capture(self, places: tuple[Tensor, Tensor]) -> None:
        for group in self._state.param_groups:
            if "capturable" in group:
                group["capturable"] = True  # earlier, it would warn in each eager step
        try:
            self._replay = self._recorder.record(
                lambda: _on_device(self._state, places, self._progress, self._autocast),
                self._state.batches.generators,
            )
        except RuntimeError as error:  # such as that of an algorithm that hands a number to Python
            reason = " ".join(str(error).split()[:30])
            raise UserError(f"the step cannot be captured ({reason}): set graph=false") from error
        self._drawn = places
