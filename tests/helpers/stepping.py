"""Steps of every algorithm, carried out in one way or another, and their results."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sslbench.algorithms.protocol import AnyAlgorithm, stages_of
from sslbench.config.build import build
from sslbench.config.schema import Settings
from sslbench.core import Progress
from sslbench.data.batches import BatchSource
from sslbench.engine.diagnostics import DiagnosticData
from sslbench.engine.state import TrainingState
from sslbench.engine.step import NextStep, set_rates
from sslbench.run.setup import build_models, prepare_data, prepare_process
from sslbench.run.train import run
from sslbench.tracking import Fanout

MakeNextStep = Callable[[TrainingState, Progress], NextStep]


def state_of(settings: Settings, device: torch.device) -> tuple[TrainingState, DiagnosticData]:
    prepare_process(settings)
    data = prepare_data(settings, device)
    algorithm: AnyAlgorithm = build(settings.algorithm, "algorithm")
    models = build_models(settings, algorithm, data, device)
    views = stages_of(algorithm)[0].views
    batches = BatchSource(data.train, data.targets, data.split, views, 20, 30, settings.seed, device)
    parts = DiagnosticData(data.train, data.targets, data.split, data.valid, data.test)
    return TrainingState(algorithm, models, build(settings.optimizer, "optimizer"), batches), parts


def trained(
    settings: Settings, make: MakeNextStep, steps: int, device: torch.device
) -> tuple[list[dict[str, float]], dict[str, Tensor]]:
    """The scalars of each of so many steps of every stage, and the modules' state at the end of each."""
    state, parts = state_of(settings, device)
    found, left = [], {}
    for stage in range(len(stages_of(state.algorithm))):
        if stage:
            state.begin_stage(stage, parts.training)
        next_step = make(state, Progress(torch.zeros((), device=device), steps, stage))
        for step in range(steps):
            set_rates(state.param_groups, 1 - step / steps)
            with state.several_backward_passes():
                next_step()
            found.append(state.meter.means())
            state.meter.clear()
        for name, model in state.models.items():
            left |= {f"{stage}.{name}.{k}": value.clone() for k, value in model.state_dict().items()}
    return found, left


def assert_alike(
    one: tuple[list[dict[str, float]], dict[str, Tensor]],
    other: tuple[list[dict[str, float]], dict[str, Tensor]],
    rel: float = 1e-4,
    abs_: float = 1e-6,
) -> None:
    """Compare what `trained` gave, up to rounding."""
    for mine, its in zip(one[0], other[0], strict=True):
        assert mine == pytest.approx(its, rel=rel, abs=abs_)
    torch.testing.assert_close(one[1], other[1], rtol=10 * rel, atol=100 * abs_)


def run_until(settings: Settings, stop: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is asked to end in its step `stop`."""

    def advance(self: Fanout, step: int) -> None:
        if step == stop:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Fanout, "advance", advance)
        with pytest.raises(KeyboardInterrupt):
            run(settings)
