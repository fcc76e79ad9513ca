from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from helpers.shipped import FIRST_OF_EACH_CLASS, OVERRIDES
from helpers.small_data import SmallData
from helpers.small_training import Rig, Slope, Stairs, first_weight
from helpers.stepping import run_until
from helpers.tape import Tape
from sslbench.config.schema import Settings
from sslbench.core import Average, Stage, Views
from sslbench.data.batches import BatchSource
from sslbench.engine import averages, loop
from sslbench.engine.averages import (
    WEIGHT_AVERAGE,
    AveragedWeights,
    AverageRule,
    MovingAverage,
    RunningMean,
    averaged_module,
    spread,
)
from sslbench.errors import UserError
from sslbench.run.evaluate import evaluate_run
from sslbench.run.train import run
from sslbench.rundir.weights import load_tensors

CPU = torch.device("cpu")
WEAK = Views(("weak",), ("weak",))

MakeSettings = Callable[..., Settings]


def drawn_weights(model: nn.Module, steps: int) -> Iterator[None]:
    """Give `model` new weights for each of so many steps."""
    random = torch.Generator().manual_seed(3)
    for _ in range(steps):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=random))
        yield


def flat(model: nn.Module) -> np.ndarray:
    return np.concatenate([p.detach().double().numpy().ravel() for p in model.parameters()])


def test_shares_of_a_running_mean() -> None:
    rule = RunningMean(start=0.5, every=2, batch_norm_images=2)
    shares = [rule.share(step, 10) for step in range(1, 11)]
    assert shares == [1, 1, 1, 1, 1, 0, 1 / 2, 0, 1 / 3, 0]
    assert RunningMean(start=0.0, every=1, batch_norm_images=2).share(1, 4) == 1
    late = RunningMean(start=0.99, every=1, batch_norm_images=2)
    assert [late.share(step, 4) for step in range(1, 5)] == [1, 1, 1, 1], "the last weights are taken"


def test_shares_of_a_moving_average() -> None:
    rule = MovingAverage(decay=0.75, batch_norm_images=2)
    assert [rule.share(step, 9) for step in range(1, 7)] == [1, 1 / 2, 1 / 3, 1 / 4, 1 / 4, 1 / 4]


@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_a_moving_average_is_that_of_float64(decay: float) -> None:
    model = nn.Linear(3, 2)
    average = AveragedWeights(MovingAverage(decay, 2), model)
    expected = np.zeros(8)
    for step, _ in enumerate(drawn_weights(model, 40), start=1):
        average.move(step, 40)
        keep = min(1 - 1 / step, decay)
        expected = keep * expected + (1 - keep) * flat(model)
        np.testing.assert_allclose(flat(average.module), expected, atol=1e-6)


@pytest.mark.parametrize(("start", "every"), [(0.5, 3), (0.0, 1), (0.26, 5)])
def test_a_running_mean_is_that_of_float64(start: float, every: int) -> None:
    model = nn.Linear(3, 2)
    average = AveragedWeights(RunningMean(start, every, 2), model)
    taken: list[np.ndarray] = []
    for step, _ in enumerate(drawn_weights(model, 40), start=1):
        average.move(step, 40)
        if step < start * 40:
            np.testing.assert_array_equal(flat(average.module), flat(model))
            continue
        if not taken:
            first = step
        if (step - first) % every == 0:
            taken.append(flat(model))
        np.testing.assert_allclose(flat(average.module), np.mean(taken, axis=0), atol=1e-6)
    assert len(taken) > 4


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MovingAverage(1.0, 2), r"^decay=1\.0 must be at least 0 and below 1$"),
        (lambda: RunningMean(1.0, 2, 2), r"^start=1\.0 must be at least 0 and below 1$"),
        (lambda: RunningMean(0.5, 0, 2), r"^every=0 must be at least 1$"),
        (lambda: RunningMean(0.5, 1, 0), r"^batch_norm_images=0 must be at least 1$"),
        (lambda: MovingAverage(0.5, 0), r"^batch_norm_images=0 must be at least 1$"),
    ],
)
def test_arguments_are_checked(make: Callable[[], AverageRule], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_the_module_that_is_averaged() -> None:
    plain = Stage(WEAK, ("student",), ("student",))
    teacher = Stage(WEAK, ("student",), ("outer", "student"), {"outer": Average("inner", 0.9)})
    assert averaged_module(plain) == "student"
    with pytest.raises(UserError, match=r"^average needs a predictor that is trained, and 'inner' is not: "):
        averaged_module(teacher)
    teacher.averages["inner"] = Average("student", 0.9)  # type: ignore[index]
    assert averaged_module(teacher) == "student"


# --- batch norm ---


def test_images_are_spread_over_the_training_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(averages, "BATCH_SIZE", 4)
    positions = torch.arange(100, 200)
    batches = spread(positions, 10)
    assert [batch.tolist() for batch in batches] == [
        [100, 130, 160, 190],
        [110, 140, 170],
        [120, 150, 180],
    ]
    everything = spread(positions, 1000)
    assert torch.equal(torch.cat(everything).sort().values, positions)
    assert {len(batch) for batch in everything} == {4}
    assert [len(batch) for batch in spread(positions, 1)] == [2], "batch norm has no statistics of one image"
    assert [len(batch) for batch in spread(positions[:5], 5)] == [3, 2], "no batch of one is left over"


def network() -> nn.Sequential:
    torch.manual_seed(5)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(16, 5), nn.BatchNorm1d(5, momentum=0.3), nn.Dropout(0.5), nn.Linear(5, 3)
    )


def batches_of(data: SmallData, views: Views) -> BatchSource:
    return BatchSource(data.images, data.targets, data.split, views, 6, 8, 0, CPU)


def test_statistics_are_those_of_a_pass_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 20 clean training images in batches of 7, 7 and 6. Nothing is drawn; the model stays as it is."""
    monkeypatch.setattr(averages, "BATCH_SIZE", 8)
    data, model = SmallData(), network()
    batches = batches_of(data, WEAK)
    average = AveragedWeights(RunningMean(0.0, 1, 20), model)
    for step, _ in enumerate(drawn_weights(model, 4), start=1):
        average.move(step, 4)
    model(batches.next().labelled[0])  # moves the statistics of the model
    random, places = torch.get_rng_state(), copy.deepcopy(batches.state_dict())
    before = copy.deepcopy(model.state_dict())

    average.prepare(batches)
    positions = np.concatenate([data.split.labelled, data.split.unlabelled])
    chosen = np.sort(positions)[np.arange(20) * len(positions) // 20]
    linear, norm = average.module[1], average.module[2]
    weight, bias = linear.weight.detach().double().numpy(), linear.bias.detach().double().numpy()
    means, variances = np.zeros(5), np.zeros(5)
    for batch in (chosen[0::3], chosen[1::3], chosen[2::3]):
        pixels = data.images.clean(torch.from_numpy(batch)).double().numpy().reshape(len(batch), -1)
        outputs = pixels @ weight.T + bias
        means += len(batch) / 20 * outputs.mean(axis=0)
        variances += len(batch) / 20 * outputs.var(axis=0, ddof=1)
    np.testing.assert_allclose(norm.running_mean.numpy(), means, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(norm.running_var.numpy(), variances, rtol=1e-5)

    assert torch.equal(torch.get_rng_state(), random), "dropout is off"
    torch.testing.assert_close(batches.state_dict(), places, rtol=0, atol=0)
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert not any(module.training for module in average.module.modules())
    assert norm.momentum == 0.3
    once = copy.deepcopy(average.module.state_dict())
    average.prepare(batches)
    torch.testing.assert_close(average.module.state_dict(), once, rtol=0, atol=0)


def test_a_pass_that_is_broken_off_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(averages, "BATCH_SIZE", 8)
    data, model = SmallData(), network()
    batches, average = batches_of(data, WEAK), AveragedWeights(RunningMean(0.0, 1, 20), model)
    average.prepare(batches)
    whole = copy.deepcopy(average.module.state_dict())
    calls = iter([None, RuntimeError("stop")])

    def pause() -> None:
        if error := next(calls):
            raise error

    with pytest.raises(RuntimeError, match="stop"):
        average.prepare(batches, pause)
    assert not any(module.training for module in average.module.modules())
    average.prepare(batches)
    torch.testing.assert_close(average.module.state_dict(), whole, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("views", "expected"),
    [
        (Views(("weak",), ()), range(9)),
        (Views((), ("weak",)), range(30, 60)),
        (WEAK, [*range(9), *range(30, 60)]),
    ],
)
def test_statistics_are_of_the_images_that_are_trained_on(views: Views, expected: list[int]) -> None:
    batches = batches_of(SmallData(), views)
    assert batches.positions.tolist() == list(expected)
    batches.change(Views((), ("weak",)), torch.tensor([40, 33]))
    assert batches.positions.tolist() == [33, 40]


def test_other_buffers_are_those_of_the_model() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    model.register_buffer("count", torch.zeros(()))
    average = AveragedWeights(MovingAverage(0.9, 2), model)
    model.count += 7
    average.prepare(batches_of(SmallData(), WEAK))
    assert average.module.count == 7


# --- in the loop ---


def test_the_average_is_the_first_predictor(tmp_path: Path) -> None:
    rig = Rig(tmp_path, Slope(), average=RunningMean(0.5, 2, 10))
    begin = first_weight(rig.models["student"])
    rig.train(steps=10, eval_every=4)
    # Each step takes 0.25 off: the average has the weights after steps 5, 7 and 9.
    assert first_weight(rig.models["student"]) == pytest.approx(begin - 2.5, abs=1e-5)
    average = rig.state.predictors[WEIGHT_AVERAGE]
    assert first_weight(average) == pytest.approx(begin - 0.25 * 7, abs=1e-5)
    assert list(rig.state.predictors) == [WEIGHT_AVERAGE, "student"]
    last = rig.recorder.logged[-1][1]
    assert last["test/acc"] == last["test/weight_average_acc"]
    assert "test/student_acc" in last
    assert rig.state.result.step_best == 10
    torch.testing.assert_close(rig.state.result.best_weights, dict(average.state_dict()))
    assert WEIGHT_AVERAGE not in rig.state.models, "the algorithm does not see it"


def test_each_stage_has_an_average_of_its_own(tmp_path: Path) -> None:
    rig = Rig(tmp_path, Stairs(), average=MovingAverage(0.99, 10))
    low, high = (first_weight(rig.models[name]) for name in ("low", "high"))
    seen: dict[int, float] = {}
    advance = rig.recorder.advance

    def noting(step: int) -> None:
        advance(step)
        seen[step] = first_weight(rig.state.predictors[WEIGHT_AVERAGE])

    rig.recorder.advance = noting  # type: ignore[method-assign]
    rig.train(steps=8)
    expected = [low - 0.25 * mean for mean in (1, 1.5, 2, 2.5)]
    expected += [high - 0.25 * mean for mean in (1, 1.5, 2, 2.5)]
    assert list(seen.values()) == pytest.approx(expected, abs=1e-5)
    assert list(rig.state.predictors) == [WEIGHT_AVERAGE, "high", "low"]


def test_a_checkpoint_without_its_average_does_not_fit(tmp_path: Path) -> None:
    saved = Rig(tmp_path).state.state_dict()
    assert "average" not in saved
    state = Rig(tmp_path, average=MovingAverage(0.9, 10)).state
    with pytest.raises(UserError, match=r"checkpoint does not fit it \(KeyError: 'average'\): delete"):
        state.load_state_dict(saved, 1000)


def curves(folder: Path) -> list[dict[str, float]]:
    """The training losses and the like; evaluations differ."""
    points = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [{k: v for k, v in point.items() if k.startswith(("train/", "images"))} for point in points]


SMALL = ["model.batch_norm=true", "model.dropout=0.1", "average.every=1", "average.start=0.5"]


@pytest.mark.parametrize("name", FIRST_OF_EACH_CLASS)
def test_an_average_changes_no_training(name: str, settings_of: MakeSettings, tmp_path: Path) -> None:
    words = [f"algorithm={name}", *OVERRIDES.get(name, []), *SMALL[:2]]
    if name == "sgan":
        words.remove("model.batch_norm=true")  # its discriminator may have none
    results = {}
    for average in ("none", "swa"):
        more = SMALL[2:] if average == "swa" else []
        place = f"run_dir={tmp_path / average}"
        results[average] = run(settings_of(*words, f"average={average}", *more, place))
    assert curves(tmp_path / "none") == curves(tmp_path / "swa")
    assert results["none"]["run_id"] != results["swa"]["run_id"]
    weights = [load_tensors(tmp_path / average / "model.safetensors") for average in ("none", "swa")]
    assert weights[0].keys() == weights[1].keys()
    again = evaluate_run(tmp_path / "swa", device="cpu")
    assert again == {key: results["swa"][key] for key in again}


@pytest.mark.parametrize("graph", ["false", "true"])
@pytest.mark.parametrize(
    ("name", "average"), [("supervised", "ema"), ("mean_teacher", "swa"), ("self_training", "swa")]
)
def test_a_run_with_an_average_goes_on_bit_for_bit(
    name: str,
    average: str,
    graph: str,
    settings_of: MakeSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = [f"algorithm={name}", f"average={average}", f"graph={graph}", *SMALL[:2]]
    words += SMALL[2:] if average == "swa" else ["average.decay=0.8"]
    words += ["steps=24", "eval_every=6"]
    monkeypatch.setattr(loop, "CudaGraphs", Tape)
    monkeypatch.setattr("sslbench.run.train.check_fast_paths", lambda *_: None)
    whole, broken = (settings_of(*words, f"run_dir={tmp_path / folder}") for folder in ("whole", "broken"))
    one = run(whole)
    run_until(broken, 21, monkeypatch)
    other = run(broken)
    weights = [(tmp_path / folder / "model.safetensors").read_bytes() for folder in ("whole", "broken")]
    assert weights[0] == weights[1]
    assert one["metrics_last"] == other["metrics_last"]


def test_captured_steps_give_the_average_of_eager_ones(
    settings_of: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["algorithm=supervised", "average=ema", "average.decay=0.8", "steps=24", "eval_every=24"]
    monkeypatch.setattr(loop, "CudaGraphs", Tape)
    monkeypatch.setattr("sslbench.run.train.check_fast_paths", lambda *_: None)
    for graph in ("true", "false"):
        run(settings_of(*words, f"graph={graph}", f"run_dir={tmp_path / graph}"))
    weights: list[dict[str, Tensor]] = [
        load_tensors(tmp_path / graph / "model.safetensors") for graph in ("true", "false")
    ]
    torch.testing.assert_close(*weights, rtol=1e-3, atol=1e-5)
