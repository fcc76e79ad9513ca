from __future__ import annotations

import copy
import io
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch._functorch import config

from helpers.small_training import MOMENTUM, Rig, Slope, Stairs, sum_of
from sslbench.core import StepOutput
from sslbench.engine.state import StageResult, stage_ends
from sslbench.errors import UserError


@pytest.mark.parametrize(
    ("stages", "steps", "ends"),
    [(1, 7, [7]), (2, 8, [4, 8]), (3, 10, [3, 7, 10]), (3, 3, [1, 2, 3])],
)
def test_stages_are_equally_long(stages: int, steps: int, ends: list[int]) -> None:
    assert stage_ends(stages, steps) == ends


def test_every_stage_has_a_step() -> None:
    for stages in range(1, 12):
        for steps in range(stages, 60):
            ends = stage_ends(stages, steps)
            assert all(end > start for start, end in zip([0, *ends], ends, strict=False))


def test_too_few_steps_for_the_stages() -> None:
    with pytest.raises(UserError, match=r"^steps=2 does not give each of the 3 stages a step: raise it$"):
        stage_ends(3, 2)


def test_parameters_of_an_optimizer(tmp_path: Path) -> None:
    rig = Rig(tmp_path, Stairs())
    rig.state.begin_stage(1, rig.data.training)
    for optimizer, module in (("main", "high"), ("rival", "rival")):
        expected = list(rig.models[module].parameters())
        assert [id(p) for p in rig.state.parameters_of(optimizer)] == [id(p) for p in expected]


def test_a_stage_begins_with_fresh_optimizers_and_a_fresh_result(tmp_path: Path) -> None:
    rig = Rig(tmp_path, Stairs(), MOMENTUM)
    state = rig.state
    [first] = state.optimizers.values()
    sum_of(rig.models["low"]).backward()
    first.step()
    first.param_groups[0]["lr"] = 0.001  # where a schedule has left it
    state.result = StageResult(
        val_acc_best=0.9,
        step_best=3,
        test_acc=0.8,
        test_ece=0.1,
        test_calibration={"counts": [1]},
        test_confusion=[[1]],
        test_history=[0.8],
        train_seconds=12.5,
        metrics_best={"val/acc": 0.9},
        metrics_last={"val/acc": 0.9},
    )

    state.begin_stage(1, rig.data.training)
    assert state.stage == 1
    assert state.current_stage is Stairs.stages[1]
    assert state.result == StageResult(train_seconds=12.5)
    for optimizer, name in zip(state.optimizers.values(), ("high", "rival"), strict=True):
        [group] = optimizer.param_groups
        assert [id(p) for p in group["params"]] == [id(p) for p in rig.models[name].parameters()]
        assert (group["lr"], group["initial_lr"]) == (0.25, 0.25)
        assert not optimizer.state


def test_a_stage_draws_its_own_views_from_its_own_pool(tmp_path: Path) -> None:
    rig = Rig(tmp_path, Stairs())
    batch = rig.state.batches.next()
    assert (len(batch.labelled), len(batch.unlabelled)) == (1, 0)
    rig.state.begin_stage(1, rig.data.training)
    drawn = [rig.state.batches.next() for _ in range(6)]
    assert all((len(batch.labelled), len(batch.unlabelled)) == (0, 1) for batch in drawn)
    positions = torch.cat([batch.unlabelled_index for batch in drawn])
    assert set(positions.tolist()) == set(rig.data.training.unlabelled[:6].tolist())


def test_one_stage_is_never_begun(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    with pytest.raises(AssertionError, match="one stage"):
        rig.state.begin_stage(1, rig.data.training)


def test_checkpoint_of_a_stage_with_a_pool(tmp_path: Path) -> None:
    rig = Rig(tmp_path, Stairs(), MOMENTUM)
    state = rig.state
    state.begin_stage(1, rig.data.training)
    state.step, state.images_seen = 7, 29
    state.result.test_history.append(0.5)
    state.result.metrics_last = {"val/acc": 0.25}
    state.history = [{"step": 4, "train/low": 0.5, "time/train_seconds": 2.5}]
    for value in (1.0, 2.0):
        state.meter.add(StepOutput(torch.tensor(value), {}), torch.tensor(0.0))
    for name, optimizer in zip(("high", "rival"), state.optimizers.values(), strict=True):
        sum_of(rig.models[name]).backward()
        optimizer.step()
        optimizer.param_groups[0]["lr"] = 0.125
    for _ in range(3):
        state.batches.next()
    content = io.BytesIO()
    torch.save(state.state_dict(), content)
    expected = [state.batches.next() for _ in range(5)]
    drawn = torch.rand(3)

    content.seek(0)
    stairs = Stairs()
    fresh = Rig(tmp_path, stairs, MOMENTUM)
    fresh.state.load_state_dict(torch.load(content, weights_only=True), 1000)
    assert torch.equal(torch.rand(3), drawn)
    assert stairs.begun == [], "the stage had begun"
    assert (fresh.state.step, fresh.state.stage, fresh.state.images_seen) == (7, 1, 29)
    assert fresh.state.result == state.result
    assert (fresh.state.history, fresh.state.logged) == (state.history, (4, 2.5))
    assert fresh.state.meter.means() == {"train/loss": 1.5}
    for batch, other in zip((fresh.state.batches.next() for _ in range(5)), expected, strict=True):
        assert batch.labelled == ()
        assert torch.equal(batch.unlabelled_index, other.unlabelled_index)
        assert torch.equal(batch.unlabelled[0], other.unlabelled[0])
    for name, model in fresh.models.items():
        torch.testing.assert_close(dict(model.state_dict()), dict(rig.models[name].state_dict()))
    for name, optimizer in fresh.state.optimizers.items():
        mine, theirs = optimizer.state_dict(), state.optimizers[name].state_dict()
        torch.testing.assert_close(mine["state"], theirs["state"])
        assert mine["param_groups"] == theirs["param_groups"]


@pytest.mark.parametrize(
    "change",
    [
        lambda saved: saved.pop("stage"),
        lambda saved: saved["result"].update(unknown=1),
        lambda saved: saved["models"].clear(),
        lambda saved: saved.update(models=7),
        lambda saved: saved["models"].update(student={"1.weight": torch.zeros(3, 3)}),
        lambda saved: saved.update(optimizers={"main": {"state": {}, "param_groups": []}}),
        lambda saved: saved.update(rng_state=torch.zeros(3)),
        lambda saved: saved["batches"].update(labelled=None),
        lambda saved: saved.update(step=-5),
        lambda saved: saved.update(step="7"),
        lambda saved: saved.update(step=1001),
        lambda saved: saved.update(images_seen="x"),
        lambda saved: saved["meter"].update(first_step="x"),
        lambda saved: saved.update(history=[5]),
        lambda saved: saved.update(history=[{"step": 1}]),
        lambda saved: saved.update(history=[{"step": 1, "time/train_seconds": "1"}]),
        lambda saved: saved.update(history=[{"step": 1000, "time/train_seconds": 1.0}]),
        lambda saved: saved["result"].update(test_history=["x"]),
        lambda saved: saved["result"].update(test_acc="x"),
        lambda saved: saved["result"].update(test_calibration={"counts": [1], "confidence": [0.5]}),
        lambda saved: saved["result"].update(test_calibration=7),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_one_line(tmp_path: Path, change: Callable[..., object]) -> None:
    state = Rig(tmp_path).state
    saved = copy.deepcopy(state.state_dict())
    change(saved)
    with pytest.raises(UserError, match=r"checkpoint does not fit it \(.*\): delete") as caught:
        state.load_state_dict(saved, 1000)
    assert "\n" not in str(caught.value)


def test_what_a_stage_begins_from_holds_no_labels(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    assert set(vars(rig.data.training)) == {"unlabelled", "_images"}


def test_a_setting_of_the_process_is_restored(tmp_path: Path) -> None:
    """Two losses go back through one compiled graph, for which torch must keep its memory."""
    plain, stairs, slope = (Rig(tmp_path, algorithm).state for algorithm in (Stairs(), Stairs(), Slope()))
    stairs.compile()
    slope.compile()
    assert config.donated_buffer, "as torch has it"
    for state, inside in ((plain, True), (slope, True), (stairs, False)):
        with state.several_backward_passes():
            assert config.donated_buffer is inside
        assert config.donated_buffer
    with pytest.raises(RuntimeError), stairs.several_backward_passes():
        raise RuntimeError("made to fail")
    assert config.donated_buffer
