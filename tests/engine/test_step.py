"""Captured steps against eager ones, for every algorithm; on the CPU, by a tape in place of a graph."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch._dynamo.utils import counters

from helpers.shipped import ALGORITHMS, FIRST_OF_EACH_CLASS, OVERRIDES
from helpers.stepping import assert_alike, run_until, state_of, trained
from helpers.tape import Tape
from sslbench.config.schema import Settings
from sslbench.core import Progress
from sslbench.engine import loop
from sslbench.engine.state import TrainingState
from sslbench.engine.step import WARM_UP, CapturedSteps, NextStep, eager_steps
from sslbench.errors import UserError
from sslbench.run.train import run
from sslbench.rundir.checkpoint import load_checkpoint

CPU = torch.device("cpu")

MakeSettings = Callable[..., Settings]


def eager(state: TrainingState, progress: Progress) -> NextStep:
    return eager_steps(state, progress, None)


def captured(tape: Tape, state: TrainingState, progress: Progress) -> NextStep:
    return CapturedSteps(state, progress, None, tape)


@pytest.mark.parametrize("optimizer", ["adam", pytest.param("sgd", marks=pytest.mark.thorough)])
@pytest.mark.parametrize("name", FIRST_OF_EACH_CLASS)
def test_captured_steps_have_the_losses_of_eager_ones(
    name: str, optimizer: str, settings_of: MakeSettings
) -> None:
    words = [f"algorithm={name}", f"optimizer={optimizer}", "optimizer.lr=0.003", "model.dropout=0.1"]
    settings = settings_of(*words, *OVERRIDES.get(name, []))
    tape = Tape()
    expected = trained(settings, eager, 50, CPU)
    found = trained(settings, partial(captured, tape), 50, CPU)
    stages = len(expected[0]) // 50
    assert (tape.recorded, tape.replayed) == (stages, stages * (50 - WARM_UP))
    assert_alike(found, expected)
    assert len({point["train/loss"] for point in found[0]}) > len(found[0]) / 2, "each has its own"


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch hides it by a filter of its own
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name == "supervised" else pytest.mark.thorough)  # 15 s each
        for name in ALGORITHMS
    ],
)
def test_compiled_models_have_the_losses_of_plain_ones(name: str, settings_of: MakeSettings) -> None:
    """Also of dropout, whose random numbers are torch's own."""
    # A small rate, as rounding that is another grows from step to step, fastest between the models of a GAN.
    words = [f"algorithm={name}", "model.dropout=0.1", "optimizer.lr=0.0002"]
    settings = settings_of(*words, *OVERRIDES.get(name, []))

    def compiled(state: TrainingState, progress: Progress) -> NextStep:
        if progress.stage == 0:
            state.compile()
        return eager_steps(state, progress, None)

    counters.clear()
    expected = trained(settings, eager, 50, CPU)
    assert not counters["frames"]
    assert_alike(trained(settings, compiled, 50, CPU), expected, abs_=1e-5)
    # The networks of label_vectors are never called as a whole.
    assert (counters["frames"]["ok"] > 0) == (name != "label_vectors")


@pytest.mark.parametrize("name", ["mean_teacher", "mixmatch", "self_training"])
def test_a_run_of_captured_steps_is_a_run(
    name: str, settings_of: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With evaluations, log points, checkpoints and stages between the replays."""
    words = [f"algorithm={name}", "steps=24", "eval_every=6", "checkpoint_every=5"]
    monkeypatch.setattr(loop, "CudaGraphs", Tape)
    monkeypatch.setattr("sslbench.run.train.check_fast_paths", lambda *_: None)
    results = {
        graph: run(settings_of(*words, f"graph={graph}", f"run_dir={tmp_path / graph}"))
        for graph in ("true", "false")
    }
    one, other = results["true"], results["false"]
    assert one["run_id"] == other["run_id"]
    for key in ("val_acc_best", "test_acc", "test_acc_last"):
        assert one[key] == pytest.approx(other[key], abs=0.01)
    for key, value in one["metrics_last"].items():
        assert value == pytest.approx(other["metrics_last"][key], abs=0.01)


def test_a_run_of_captured_steps_goes_on_bit_for_bit(
    settings_of: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["algorithm=vat", "steps=24", "eval_every=12", "graph=true", "model.dropout=0.1"]
    monkeypatch.setattr(loop, "CudaGraphs", Tape)
    monkeypatch.setattr("sslbench.run.train.check_fast_paths", lambda *_: None)
    whole, broken = (settings_of(*words, f"run_dir={tmp_path / folder}") for folder in ("whole", "broken"))
    run(whole)
    run_until(broken, 9, monkeypatch)
    run(broken)
    weights = [(tmp_path / folder / "model.safetensors").read_bytes() for folder in ("whole", "broken")]
    assert weights[0] == weights[1]


@pytest.mark.parametrize("first", ["true", "false"])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_run_may_go_on_the_other_way(
    settings_of: MakeSettings, first: str, optimizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["algorithm=supervised", "steps=12", "eval_every=12", f"optimizer={optimizer}"]
    words.append("schedule=cosine")
    monkeypatch.setattr(loop, "CudaGraphs", Tape)
    monkeypatch.setattr("sslbench.run.train.check_fast_paths", lambda *_: None)
    whole, begun, gone_on = (
        settings_of(*words, f"graph={graph}", f"run_dir={tmp_path / folder}")
        for graph, folder in (("false", "whole"), (first, "broken"), (str(first == "false"), "broken"))
    )
    expected = run(whole)
    run_until(begun, 7, monkeypatch)
    saved = load_checkpoint(tmp_path / "broken" / "checkpoint" / "last.pt")
    assert isinstance(saved["optimizers"]["main"]["param_groups"][0]["lr"], torch.Tensor) == (first == "true")
    result = run(gone_on)
    assert result["metrics_last"]["val/loss"] == pytest.approx(expected["metrics_last"]["val/loss"], rel=1e-4)
    last = load_checkpoint(tmp_path / "broken" / "checkpoint" / "last.pt")
    group = last["optimizers"]["main"]["param_groups"][0]
    assert isinstance(group["lr"], torch.Tensor) == (first == "false")
    assert group.get("capturable", False) == (first == "false" and optimizer == "adam")


def test_a_step_that_cannot_be_captured(settings_of: MakeSettings) -> None:
    class Refusing(Tape):
        def record(self, *_: object) -> Callable[[], object]:
            raise RuntimeError("operation not permitted\nwhen stream is capturing")

    state, _ = state_of(settings_of(), CPU)
    next_step = CapturedSteps(state, Progress(torch.zeros(()), 10), None, Refusing())
    for _ in range(WARM_UP):
        next_step()
    with pytest.raises(UserError, match=r"cannot be captured \(operation .* capturing\): set graph=false"):
        next_step()


def test_optimizers_of_captured_steps_are_capturable(settings_of: MakeSettings) -> None:
    """Or Adam would refuse."""
    state, _ = state_of(settings_of("optimizer=adam"), CPU)
    next_step = CapturedSteps(state, Progress(torch.zeros(()), 10), None, Tape())
    group = state.param_groups[0]
    for _ in range(WARM_UP):
        next_step()
    assert not group["capturable"], "it would warn"
    next_step()
    assert group["capturable"]


def test_an_optimizer_that_cannot_be_captured(settings_of: MakeSettings) -> None:
    state, _ = state_of(settings_of("optimizer.fused=false"), CPU)
    with pytest.raises(UserError, match=r"graph=true needs optimizer\.fused=true"):
        CapturedSteps(state, Progress(torch.zeros(()), 10), None, Tape())
