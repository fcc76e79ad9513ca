from __future__ import annotations

import copy
import io
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from helpers.small_training import MOMENTUM, Rig, Stairs, sum_of
from sslbench.core import Stage, StepOutput, Views
from sslbench.engine.state import Score, stage_ends
from sslbench.errors import UserError

VIEWS = Views(("weak",))


def stages_with(*shares: float) -> list[Stage]:
    return [Stage(f"stage {share}", VIEWS, ("student",), ("student",), share) for share in shares]


@pytest.mark.parametrize(
    ("shares", "steps", "ends"),
    [
        ([1.0], 7, [7]),
        ([1.0, 1.0], 8, [4, 8]),
        ([1.0, 1.0, 1.0], 10, [3, 7, 10]),
        ([1.0, 3.0], 8, [2, 8]),
        ([0.2, 0.1, 0.7], 100, [20, 30, 100]),
        ([1.0, 1.0, 1.0], 3, [1, 2, 3]),
    ],
)
def test_stages_end_in_proportion_to_their_shares(shares: list[float], steps: int, ends: list[int]) -> None:
    assert stage_ends(stages_with(*shares), steps) == ends


@pytest.mark.parametrize(("shares", "steps"), [([1.0, 1.0], 1), ([1.0, 99.0], 10), ([99.0, 1.0], 10)])
def test_too_few_steps_for_the_stages(shares: list[float], steps: int) -> None:
    with pytest.raises(
        UserError, match=rf"^steps={steps} does not give each of the 2 stages a step: raise it$"
    ):
        stage_ends(stages_with(*shares), steps)


def test_parameters_of_the_named_modules_only(tmp_path: Path) -> None:
    rig = Rig(tmp_path, Stairs())
    expected = [p for name in ("rival", "low") for p in rig.models[name].parameters()]
    chosen = rig.state.parameters_of("rival", "low")
    assert [id(p) for p in chosen] == [id(p) for p in expected]


def test_a_stage_begins_with_fresh_optimizers_and_a_fresh_score(tmp_path: Path) -> None:
    rig = Rig(tmp_path, Stairs(), MOMENTUM)
    state = rig.state
    [first] = state.optimizers
    sum_of(rig.models["low"]).backward()
    first.step()
    first.param_groups[0]["lr"] = 0.001  # where a schedule has left it
    state.score = Score(0.9, 3, 0.8, 0.1, {"counts": [1]}, [0.8], 12.5, {"val/acc": 0.9}, {"val/acc": 0.9})

    state.begin_stage(1, rig.data.visible)
    assert state.stage == 1
    assert state.plan.name == "high"
    assert state.score == Score(train_seconds=12.5)
    for optimizer, name in zip(state.optimizers, ("high", "rival"), strict=True):
        [group] = optimizer.param_groups
        assert [id(p) for p in group["params"]] == [id(p) for p in rig.models[name].parameters()]
        assert (group["lr"], group["initial_lr"]) == (0.25, 0.25)
        assert not optimizer.state


def test_a_stage_draws_its_own_views_from_its_own_pool(tmp_path: Path) -> None:
    rig = Rig(tmp_path, Stairs())
    batch = rig.state.batches.next()
    assert (len(batch.labelled), len(batch.unlabelled)) == (1, 0)
    rig.state.begin_stage(1, rig.data.visible)
    drawn = [rig.state.batches.next() for _ in range(6)]
    assert all((len(batch.labelled), len(batch.unlabelled)) == (0, 1) for batch in drawn)
    positions = torch.cat([batch.unlabelled_index for batch in drawn])
    assert set(positions.tolist()) == set(rig.data.visible.unlabelled[:6].tolist())


def test_one_stage_is_never_begun(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    with pytest.raises(AssertionError, match="one stage"):
        rig.state.begin_stage(1, rig.data.visible)


def test_checkpoint_of_a_stage_with_a_pool(tmp_path: Path) -> None:
    rig = Rig(tmp_path, Stairs(), MOMENTUM)
    state = rig.state
    state.begin_stage(1, rig.data.visible)
    state.step, state.images_seen = 7, 29
    state.score.test_history.append(0.5)
    state.score.metrics_last = {"val/acc": 0.25}
    state.history = [{"step": 4, "train/low": 0.5, "time/train_seconds": 2.5}]
    for value in (1.0, 2.0):
        state.meter.add(StepOutput(torch.tensor(value), {}), torch.tensor(0.0))
        state.meter.count += 1
    for name, optimizer in zip(("high", "rival"), state.optimizers, strict=True):
        sum_of(rig.models[name]).backward()
        optimizer.step()
        optimizer.param_groups[0]["lr"] = 0.125
    for _ in range(3):
        state.batches.next()
    content = io.BytesIO()
    torch.save(state.state_dict(), content)
    expected = [state.batches.next() for _ in range(5)]
    chance = torch.rand(3)

    content.seek(0)
    stairs = Stairs()
    fresh = Rig(tmp_path, stairs, MOMENTUM)
    fresh.state.load_state_dict(torch.load(content, weights_only=True), 1000)
    assert torch.equal(torch.rand(3), chance)
    assert stairs.begun == [], "the stage had begun"
    assert (fresh.state.step, fresh.state.stage, fresh.state.images_seen) == (7, 1, 29)
    assert fresh.state.score == state.score
    assert (fresh.state.history, fresh.state.logged) == (state.history, (4, 2.5))
    assert fresh.state.meter.means() == {"train/loss": 1.5}
    for batch, other in zip((fresh.state.batches.next() for _ in range(5)), expected, strict=True):
        assert batch.labelled == ()
        assert torch.equal(batch.unlabelled_index, other.unlabelled_index)
        assert torch.equal(batch.unlabelled[0], other.unlabelled[0])
    for name, model in fresh.models.items():
        torch.testing.assert_close(dict(model.state_dict()), dict(rig.models[name].state_dict()))
    for optimizer, saved in zip(fresh.state.optimizers, state.optimizers, strict=True):
        mine, theirs = optimizer.state_dict(), saved.state_dict()
        torch.testing.assert_close(mine["state"], theirs["state"])
        assert mine["param_groups"] == theirs["param_groups"]


@pytest.mark.parametrize(
    "change",
    [
        lambda saved: saved.pop("stage"),
        lambda saved: saved["score"].update(unknown=1),
        lambda saved: saved["models"].clear(),
        lambda saved: saved.update(models=7),
        lambda saved: saved["models"].update(student={"1.weight": torch.zeros(3, 3)}),
        lambda saved: saved.update(optimizers=[{"state": {}, "param_groups": []}]),
        lambda saved: saved.update(chance=torch.zeros(3)),
        lambda saved: saved["batches"].update(labelled=None),
        lambda saved: saved.update(step=-5),
        lambda saved: saved.update(step="7"),
        lambda saved: saved.update(step=1001),
        lambda saved: saved.update(images_seen="x"),
        lambda saved: saved["meter"].update(count="x"),
        lambda saved: saved.update(history=[5]),
        lambda saved: saved.update(history=[{"step": 1}]),
        lambda saved: saved.update(history=[{"step": 1, "time/train_seconds": "1"}]),
        lambda saved: saved.update(history=[{"step": 1000, "time/train_seconds": 1.0}]),
        lambda saved: saved["score"].update(test_history=["x"]),
        lambda saved: saved["score"].update(test_acc="x"),
        lambda saved: saved["score"].update(test_calibration={"counts": [1], "confidence": [0.5]}),
        lambda saved: saved["score"].update(test_calibration=7),
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
    assert set(vars(rig.data.visible)) == {"labelled", "unlabelled", "_images"}
