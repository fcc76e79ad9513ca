"""Steps on CUDA, as graphs and eager; skipped without a GPU."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from helpers.shipped import ALGORITHMS, OVERRIDES
from helpers.stepping import assert_alike, state_of, trained
from sslbench.config.schema import Settings
from sslbench.core import Progress
from sslbench.engine.state import TrainingState
from sslbench.engine.step import CapturedSteps, CudaGraphs, NextStep, eager_steps

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

CUDA = torch.device("cuda")

MakeSettings = Callable[..., Settings]


def eager(state: TrainingState, progress: Progress) -> NextStep:
    return eager_steps(state, progress, None)


def captured(state: TrainingState, progress: Progress) -> NextStep:
    return CapturedSteps(state, progress, None, CudaGraphs())


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_graphs_have_the_losses_of_eager_steps(name: str, optimizer: str, settings_of: MakeSettings) -> None:
    words = [f"algorithm={name}", "model=cnn", "model.dropout=0.1", f"optimizer={optimizer}", "device=cuda"]
    words += ["optimizer.lr=0.001", "precision=fp32", "deterministic=true", *OVERRIDES.get(name, [])]
    settings = settings_of(*words)
    assert_alike(trained(settings, captured, 50, CUDA), trained(settings, eager, 50, CUDA))


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_step_never_waits_for_the_device(name: str, settings_of: MakeSettings) -> None:
    state, _ = state_of(settings_of(f"algorithm={name}", "model=cnn", "device=cuda"), CUDA)
    next_step = eager(state, Progress(torch.zeros((), device=CUDA), 100))
    next_step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(5):
            next_step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
