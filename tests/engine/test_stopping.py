"""A run that is asked to end: where it stops, what it leaves, and that it goes on as if nothing had been."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from helpers.look_ahead import LookAhead
from helpers.small_training import MOMENTUM, Rig, Slope, Stairs, halving
from sslbench.algorithms.protocol import AnyAlgorithm
from sslbench.config.intervals import Interval
from sslbench.engine import step as engine_step
from sslbench.engine.step import training_step
from sslbench.errors import DivergedError
from sslbench.rundir.checkpoint import load_checkpoint
from sslbench.system.signals import raise_on_signal

NEVER = Interval(seconds=1000)
STEPS = 9


class AskedAt:
    """Asks this process to end at one event among those counted here: steps, and passes of an evaluation."""

    def __init__(self, event: int) -> None:
        self.left = event

    def __call__(self) -> None:
        self.left -= 1
        if self.left == 0:
            signal.raise_signal(signal.SIGTERM)


def watched(rig: Rig, event: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    def step(*arguments: Any) -> Any:
        event()
        return training_step(*arguments)

    def evaluated(module: nn.Module, inputs: tuple[Tensor]) -> None:
        if not module.training:
            event()

    monkeypatch.setattr(engine_step, "training_step", step)
    for model in rig.models.values():
        model.register_forward_pre_hook(evaluated)


def curve(rig: Rig) -> list[tuple[int, dict[str, float]]]:
    return [
        (step, {key: value for key, value in metrics.items() if not key.startswith("time/")})
        for step, metrics in rig.recorder.logged
    ]


def outcome(rig: Rig) -> dict[str, Any]:
    result = {key: value for key, value in vars(rig.state.result).items() if key != "train_seconds"}
    for field in ("metrics_best", "metrics_last"):
        result[field] = {k: v for k, v in result[field].items() if not k.startswith("time/")}
    weights = {name: dict(model.state_dict()) for name, model in rig.models.items()}
    return {"weights": weights, "rng_state": torch.get_rng_state(), **result}


@pytest.mark.parametrize("algorithm", [Slope, Stairs, LookAhead])
def test_asked_at_every_event_and_gone_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, algorithm: Callable[[], AnyAlgorithm]
) -> None:
    settings: dict[str, Any] = {"steps": STEPS, "eval_every": 4, "log_every": 3, "schedule": halving}

    def rig(folder: str, event: Callable[[], None] = lambda: None) -> Rig:
        (tmp_path / folder).mkdir(exist_ok=True)
        made = Rig(tmp_path / folder, algorithm(), MOMENTUM)
        watched(made, event, monkeypatch)
        return made

    events = AskedAt(0)  # counts down from there, and never asks
    whole = rig("whole", events)
    whole.train(**settings)
    expected = outcome(whole)
    assert -events.left > STEPS + 4

    for event in range(1, 1 - events.left):
        broken = rig(f"asked at {event}", AskedAt(event))
        with pytest.raises(KeyboardInterrupt) as interrupt, raise_on_signal():
            broken.train(**settings, checkpoint_every=NEVER)
        assert interrupt.value.args == (signal.SIGTERM,)
        saved = load_checkpoint(broken.checkpoint)
        assert saved["step"] == broken.state.step, "the step that it was asked in is finished, and saved"
        assert [point["step"] for point in saved["history"]] == [step for step, _ in broken.recorder.logged]

        resumed = rig(f"asked at {event}")
        resumed.state.load_state_dict(saved, 1000)
        resumed.train(**settings, checkpoint_every=NEVER)
        torch.testing.assert_close(outcome(resumed), expected, rtol=0, atol=0)
        assert curve(broken) + curve(resumed) == curve(whole), "no point twice, none missing"
        assert [point["step"] for point in resumed.state.history] == [s for s, _ in whole.recorder.logged]


def test_asked_twice_ends_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(tmp_path)

    def twice() -> None:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        pytest.fail("the second one is not waited for")

    watched(rig, twice, monkeypatch)
    with pytest.raises(KeyboardInterrupt) as interrupt, raise_on_signal():
        rig.train()
    assert interrupt.value.args == (signal.SIGINT,)
    assert not rig.checkpoint.exists()


def test_a_diverged_state_is_never_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(tmp_path, Slope(bad_step=5))
    watched(rig, AskedAt(5), monkeypatch)
    with pytest.raises((DivergedError, KeyboardInterrupt)) as error, raise_on_signal():
        rig.train(steps=20, eval_every=20, log_every=20, checkpoint_every=NEVER)
    assert isinstance(error.value, DivergedError)
    assert "step 5" in str(error.value)
    assert not rig.checkpoint.exists()


def test_asked_when_all_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the last pass of the last evaluation: the training is finished, and the request still holds."""
    rig = Rig(tmp_path)
    watched(rig, AskedAt(2 + 2), monkeypatch)
    with pytest.raises(KeyboardInterrupt), raise_on_signal():
        rig.train(steps=2)
    saved = load_checkpoint(rig.checkpoint)
    assert (saved["step"], len(saved["history"])) == (2, 1)


def test_a_new_checkpoint_needs_something_new(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.train(steps=4, checkpoint_every=Interval(steps=2))
    assert load_checkpoint(rig.checkpoint.with_name("previous.pt"))["step"] == 2
    rig.train(steps=4, checkpoint_every=Interval(steps=2))
    assert load_checkpoint(rig.checkpoint.with_name("previous.pt"))["step"] == 2
