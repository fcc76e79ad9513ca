from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from helpers.small_training import MOMENTUM, Rig, Slope, Stairs, first_weight, halving
from sslbench.config.intervals import Interval
from sslbench.engine import loop
from sslbench.engine.evaluation import Evaluation, EvaluationSet
from sslbench.engine.state import StageResult
from sslbench.errors import DivergedError
from sslbench.rundir.checkpoint import Checkpoints, load_checkpoint
from sslbench.rundir.records import Calibration

KEYS = ("acc", "balanced_acc", "ece", "loss")
NO_GAP = Calibration((1,), (0.5,), (0.5,))


def confusion_of(acc: float) -> list[list[int]]:
    """Other counts at each accuracy."""
    return [[round(1000 * acc), 1], [2, 3]]


def bins_of(acc: float) -> Calibration:
    return Calibration((1,), (1.0,), (acc,))


class Evaluations:
    """Stands in for `evaluate` with numbers known beforehand, by set."""

    def __init__(self, rig: Rig, valid: list[float], test: list[float]) -> None:
        self.rig = rig
        self.coming = {id(rig.data.valid): iter(valid), id(rig.data.test): iter(test)}
        self.weights: list[float] = []

    def __call__(self, model: nn.Module, data: EvaluationSet, **_: object) -> Evaluation:
        acc = next(self.coming[id(data)])
        if data is self.rig.data.valid:
            self.weights.append(first_weight(model))
        return Evaluation(acc, loss=2 * acc, calibration=bins_of(acc), confusion=confusion_of(acc))


@pytest.fixture
def slope() -> Slope:
    return Slope()


@pytest.fixture
def rig(tmp_path: Path, slope: Slope) -> Rig:
    return Rig(tmp_path, slope)


def test_evaluates_every_so_many_steps_and_at_the_end(rig: Rig) -> None:
    rig.train(steps=10, eval_every=4, log_every=3)
    assert list(rig.recorder.curve("val/acc")) == [4, 8, 10]
    assert list(rig.recorder.curve("test/acc")) == [4, 8, 10]
    assert list(rig.recorder.curve("train/loss")) == [3, 4, 6, 8, 9, 10]
    assert rig.recorder.advanced == list(range(1, 11))
    assert rig.state.step == 10
    assert len(rig.state.result.test_history) == 3


def test_order_of_events_is_that_of_the_docstring(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []

    def log(step: int, metrics: dict[str, float]) -> None:
        events.append(f"{'evaluate and ' if 'val/acc' in metrics else ''}log {step}")

    monkeypatch.setattr(rig.recorder, "advance", lambda step: events.append(f"step {step}"))
    monkeypatch.setattr(rig.recorder, "log", log)
    monkeypatch.setattr(Checkpoints, "save", lambda self, state: events.append(f"save {state['step']}"))
    rig.train(steps=5, eval_every=4, log_every=2, checkpoint_every=Interval(steps=3))
    documented = str(loop._Loop.run.__doc__)
    assert ", ".join(events) in " ".join(documented.split())


def test_an_end_that_is_due_anyway_is_evaluated_once(rig: Rig) -> None:
    rig.train(steps=8, eval_every=4, log_every=4)
    assert [step for step, _ in rig.recorder.logged] == [4, 8]
    assert len(rig.state.result.test_history) == 2


def test_a_run_shorter_than_any_interval_is_evaluated(rig: Rig) -> None:
    rig.train(steps=2, eval_every=100, log_every=100)
    assert list(rig.recorder.curve("val/acc")) == [2]
    assert rig.checkpoint.exists()


def test_metrics_of_a_log_point(rig: Rig) -> None:
    rig.train(steps=4, eval_every=4, log_every=2)
    train_keys = {"train/loss", "train/slope", "train/lr"}
    other = {"images_seen", "time/train_seconds", "time/steps_per_second"}
    looked_up = {f"{part}/{key}" for part in ("val", "test") for key in KEYS}
    assert set(rig.recorder.logged[0][1]) == train_keys | other
    assert set(rig.recorder.logged[1][1]) == train_keys | other | looked_up
    assert rig.recorder.curve("images_seen") == {2: 16, 4: 32}


@pytest.mark.parametrize(
    ("valid", "best"),
    [
        ([0.5, 0.7, 0.6, 0.4, 0.3], 4),
        ([0.5, 0.7, 0.7, 0.4, 0.7], 10),  # the last of equals
        ([0.0, 0.0, 0.0, 0.0, 0.0], 10),
        ([0.9, 0.1, 0.1, 0.1, 0.1], 2),
    ],
)
@pytest.mark.parametrize("test", [[0.1, 0.2, 0.3, 0.4, 0.5], [0.99, 0.2, 0.3, 0.98, 0.0]])
def test_validation_alone_chooses_the_step(
    rig: Rig, valid: list[float], best: int, test: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluations = Evaluations(rig, valid, test)
    monkeypatch.setattr(loop, "evaluate", evaluations)
    rig.train(steps=10, eval_every=2)
    result, place = rig.state.result, best // 2 - 1
    assert result.step_best == best
    assert result.val_acc_best == valid[place]
    assert result.test_acc == test[place]
    assert result.test_ece == 1 - test[place]
    assert result.test_calibration == {"counts": [1], "confidence": [1.0], "accuracy": [test[place]]}
    assert result.test_confusion == confusion_of(test[place])
    assert result.test_history == test
    assert (result.metrics_best["val/acc"], result.metrics_best["test/acc"]) == (valid[place], test[place])
    assert (result.metrics_last["val/acc"], result.metrics_last["test/acc"]) == (valid[-1], test[-1])
    # The weights of that step, not a reference to a network that trained on.
    assert result.best_weights["1.weight"].flatten()[0].item() == evaluations.weights[place]
    assert len(set(evaluations.weights)) == 5


@pytest.mark.parametrize(
    ("history", "median"),
    [
        ([0.5], 0.5),
        ([0.1, 0.4], 0.25),
        ([0.3, 0.1, 0.2], 0.2),
        ([0.0] * 100 + [0.8] * 11 + [0.9] * 9, 0.8),
        ([1.0] * 5 + [i / 100 for i in range(20)], 0.095),
    ],
)
def test_median_of_the_last_twenty(history: list[float], median: float) -> None:
    assert StageResult(test_history=history).test_acc_median20 == pytest.approx(median)


def test_several_predictors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(tmp_path, Slope(predictors=("teacher", "student")))
    seen: list[tuple[bool, str]] = []
    accuracies = {"teacher": (0.6, 0.61), "student": (0.8, 0.81)}

    def evaluate(model: nn.Module, data: EvaluationSet, **_: object) -> Evaluation:
        name = next(name for name, other in rig.models.items() if other is model)
        seen.append((data is rig.data.test, name))
        return Evaluation(accuracies[name][data is rig.data.test], 0.0, NO_GAP, [[1]])

    monkeypatch.setattr(loop, "evaluate", evaluate)
    rig.train(steps=2)
    metrics = rig.recorder.logged[-1][1]
    assert len(seen) == len(set(seen)) == 4
    assert metrics["val/acc"] == metrics["val/teacher_acc"] == 0.6
    assert metrics["test/acc"] == metrics["test/teacher_acc"] == 0.61
    assert (metrics["val/student_acc"], metrics["test/student_acc"]) == (0.8, 0.81)
    assert rig.state.result.val_acc_best == 0.6
    assert rig.state.result.test_history == [0.61]
    teacher = rig.models["teacher"].state_dict()["1.weight"]
    assert torch.equal(rig.state.result.best_weights["1.weight"], teacher)


def test_learning_rate_follows_the_schedule(rig: Rig) -> None:
    asked: list[tuple[int, int]] = []

    def schedule(step: int, total: int) -> float:
        asked.append((step, total))
        return halving(step, total)

    start = first_weight(rig.models["student"])
    rig.train(steps=6, eval_every=6, log_every=1, schedule=schedule)
    assert set(asked) == {(step, 6) for step in range(6)}
    rates = [0.25 * 0.5**step for step in range(6)]
    # Every gradient is 1, so that the weights are the sum of the rates that were used.
    expected = start - np.cumsum(rates)
    weights = [point["student"] for point in rig.recorder.first_weights]
    assert weights == pytest.approx(expected.tolist(), abs=1e-6)
    assert list(rig.recorder.curve("train/lr").values()) == pytest.approx(rates)


def test_each_group_keeps_its_own_rate(tmp_path: Path) -> None:
    def two_groups(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        weight, bias = parameters
        return torch.optim.SGD([{"params": [weight], "lr": 0.5}, {"params": [bias], "lr": 0.125}])

    rig = Rig(tmp_path, new_optimizer=two_groups)
    weight, bias = rig.models["student"].parameters()
    before = weight[0, 0].item(), bias[0].item()
    rig.train(steps=2, schedule=halving)
    assert weight[0, 0].item() == pytest.approx(before[0] - 0.75)
    assert bias[0].item() == pytest.approx(before[1] - 0.1875)


def test_gradients_do_not_add_up(rig: Rig) -> None:
    rig.train(steps=3)
    for parameter in rig.models["student"].parameters():
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, torch.ones_like(parameter))


def test_progress_counts_finished_steps(rig: Rig, slope: Slope) -> None:
    rig.train(steps=5)
    assert slope.seen_steps == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("autocast", "enabled"), [(None, False), (torch.bfloat16, True)])
def test_precision_of_the_forward_pass(
    rig: Rig, slope: Slope, autocast: torch.dtype | None, enabled: bool
) -> None:
    rig.train(steps=2, autocast=autocast)
    assert [on for on, _ in slope.autocast] == [enabled, enabled]
    assert not enabled or not any(cached for _, cached in slope.autocast)
    assert not torch.is_autocast_enabled("cpu")


def test_time_of_evaluations_and_checkpoints_is_not_training_time(
    rig: Rig, slope: Slope, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0

    def pass_time(seconds: float) -> None:
        nonlocal now
        now += seconds

    def evaluate(model: nn.Module, data: EvaluationSet, **_: object) -> Evaluation:
        pass_time(100.0)
        return Evaluation(0.5, 0.5, NO_GAP, [[1]])

    monkeypatch.setattr(loop, "evaluate", evaluate)
    monkeypatch.setattr(Checkpoints, "save", lambda self, state: pass_time(50.0))
    slope.on_step = lambda: pass_time(0.25)
    rig.train(steps=10, eval_every=4, log_every=3, clock=lambda: now)
    assert rig.state.result.train_seconds == 2.5
    assert rig.recorder.curve("time/train_seconds") == {step: step / 4 for step in (3, 4, 6, 8, 9, 10)}
    assert set(rig.recorder.curve("time/steps_per_second").values()) == {4.0}


def test_divergence_ends_a_run_before_its_evaluation(tmp_path: Path) -> None:
    rig = Rig(tmp_path, Slope(bad_step=6))
    with pytest.raises(DivergedError, match=r"'slope' became NaN or infinite at step 6:"):
        rig.train(steps=20, eval_every=4, log_every=100)
    assert [step for step, _ in rig.recorder.logged] == [4]
    assert load_checkpoint(rig.checkpoint)["step"] == 4
    assert all(value.isfinite().all() for value in rig.state.result.best_weights.values())


def test_checkpoint_is_that_of_the_last_evaluation_and_goes_on_from_there(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("whole", "broken", "broken")]
    folders[0].mkdir()
    folders[1].mkdir()
    slopes = [Slope() for _ in folders]
    whole, broken, resumed = (Rig(f, slope, MOMENTUM) for f, slope in zip(folders, slopes, strict=True))
    whole.train(steps=10, schedule=halving)

    broken.recorder.stop_at = 6
    with pytest.raises(KeyboardInterrupt):
        broken.train(steps=10, schedule=halving)
    saved = load_checkpoint(broken.checkpoint)
    assert saved["step"] == 4
    assert len(saved["result"]["test_history"]) == 1

    with torch.no_grad():
        for parameter in resumed.models["student"].parameters():
            parameter.zero_()
    resumed.state.load_state_dict(saved, 1000)
    resumed.train(steps=10, schedule=halving)
    assert resumed.recorder.advanced == [5, 6, 7, 8, 9, 10]
    assert slopes[2].seen_steps == [4, 5, 6, 7, 8, 9]
    assert resumed.recorder.first_weights == whole.recorder.first_weights[4:]
    assert resumed.recorder.curve("train/lr") == {
        step: rate for step, rate in whole.recorder.curve("train/lr").items() if step > 4
    }
    assert resumed.state.result.test_history == whole.state.result.test_history
    assert load_checkpoint(resumed.checkpoint)["step"] == 10


def test_a_finished_state_is_left_alone(rig: Rig) -> None:
    rig.train(steps=4)
    rig.train(steps=4)
    assert rig.recorder.advanced == [1, 2, 3, 4]
    assert len(rig.state.result.test_history) == 1


def test_stages_follow_each_other(tmp_path: Path) -> None:
    stairs = Stairs()
    rig = Rig(tmp_path, stairs)
    start = {name: first_weight(model) for name, model in rig.models.items()}
    asked: list[tuple[int, int]] = []

    def schedule(step: int, total: int) -> float:
        asked.append((step, total))
        return halving(step, total)

    rig.train(steps=9, eval_every=100, log_every=1, schedule=schedule)
    assert stairs.begun == [1]
    assert set(asked) == {(step, 4) for step in range(4)} | {(step, 5) for step in range(5)}
    assert stairs.seen == [(0, step, 4) for step in range(4)] + [(1, step, 5) for step in range(5)]
    assert list(rig.recorder.curve("train/lr").values()) == [0.25 * 0.5**step for _, step, _ in stairs.seen]
    # Three labelled images a step, then five unlabelled ones.
    assert list(rig.recorder.curve("images_seen").values()) == [3, 6, 9, 12, 17, 22, 27, 32, 37]
    assert rig.recorder.advanced == list(range(1, 10))

    moved = {name: first_weight(model) - start[name] for name, model in rig.models.items()}
    rates = [0.25 * 0.5**step for step in range(5)]
    assert moved == pytest.approx({"low": -sum(rates[:4]), "high": -sum(rates), "rival": sum(rates)})
    assert set(rig.recorder.logged[3][1]) >= {"train/low", "val/acc"}
    assert set(rig.recorder.logged[4][1]) >= {"train/loss", "train/high", "train/rival"}


def test_each_stage_is_evaluated_at_its_end_and_has_its_own_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path, Stairs())
    # The last stage evaluates both of its predictors.
    valid = [0.9, 0.8, 0.75, 0.5, 0.5, 0.3]
    test = [acc + 0.125 for acc in valid]
    monkeypatch.setattr(loop, "evaluate", Evaluations(rig, valid, test))
    rig.train(steps=9, eval_every=3, log_every=100)
    curve = rig.recorder.curve
    assert curve("val/acc") == {3: 0.9, 4: 0.8, 6: 0.75, 9: 0.5}
    assert curve("val/low_acc") == {6: 0.5, 9: 0.3}
    assert curve("diagnostic/stage") == {4: 0.0, 9: 1.0}, "diagnostics are those of a stage's end"
    result = rig.state.result
    assert (result.val_acc_best, result.step_best, result.test_history) == (0.75, 6, [0.875, 0.625])
    assert result.metrics_best["val/high_acc"] == 0.75
    assert "diagnostic/stage" not in result.metrics_best
    assert result.metrics_last["diagnostic/stage"] == 1
    assert result.train_seconds == curve("time/train_seconds")[9] == 4.0, "the seconds are of the whole run"


def test_numbers_of_a_method_belong_to_the_best_step_if_it_is_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path, Stairs())
    monkeypatch.setattr(loop, "evaluate", lambda model, data, **_: Evaluation(0.5, 0.5, NO_GAP, [[1]]))
    rig.train(steps=9)
    assert rig.state.result.metrics_best == rig.state.result.metrics_last
    assert rig.state.result.metrics_best["diagnostic/stage"] == 1


def test_divergence_in_a_later_stage_names_the_step_of_the_run(tmp_path: Path) -> None:
    with pytest.raises(DivergedError, match=r"'rival' became NaN or infinite at step 5:"):
        Rig(tmp_path, Stairs(bad_step=5)).train(steps=9)


def test_sample_images_are_shown_at_each_evaluation(tmp_path: Path) -> None:
    rig = Rig(tmp_path, Stairs())
    rig.train(steps=9, eval_every=4, log_every=1)
    assert [(step, name) for step, name, _ in rig.recorder.shown] == [(s, "still") for s in (4, 8, 9)]
    for _, _, picture in rig.recorder.shown:
        np.testing.assert_array_equal(picture, np.full((2, 3, 1), 7, dtype=np.uint8))


@pytest.mark.parametrize("stop", range(2, 10))
def test_a_run_goes_on_in_the_stage_that_it_was_broken_off_in(tmp_path: Path, stop: int) -> None:
    saved = stop - 1  # the step that it is broken off in is lost
    folders = [tmp_path / name for name in ("whole", "broken", "broken")]
    folders[0].mkdir()
    folders[1].mkdir()
    stairs = [Stairs() for _ in folders]
    whole, broken, resumed = (Rig(f, stair, MOMENTUM) for f, stair in zip(folders, stairs, strict=True))
    every = Interval(steps=1)
    whole.train(steps=9, eval_every=2, schedule=halving)
    broken.recorder.stop_at = stop
    with pytest.raises(KeyboardInterrupt):
        broken.train(steps=9, eval_every=2, schedule=halving, checkpoint_every=every)

    state = load_checkpoint(resumed.checkpoint)
    assert (state["step"], state["stage"]) == (saved, int(saved > 4))
    resumed.state.load_state_dict(state, 1000)
    resumed.train(steps=9, eval_every=2, schedule=halving, checkpoint_every=every)
    assert stairs[2].begun == ([] if saved > 4 else [1])
    assert stairs[2].seen == stairs[0].seen[saved:]
    assert stairs[2].drawn == stairs[0].drawn[saved:]
    for name, model in resumed.models.items():
        assert first_weight(model) == first_weight(whole.models[name]), name
    mine, theirs = vars(resumed.state.result), vars(whole.state.result)
    different = {"best_weights", "train_seconds"}  # tensors do not compare, and the clock starts again
    assert {k: v for k, v in mine.items() if k not in different} == {
        k: v for k, v in theirs.items() if k not in different
    }
