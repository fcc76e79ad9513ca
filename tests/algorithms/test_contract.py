"""What every algorithm in ``conf/algorithm`` must keep to; each test is a trap that known code fell into."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from sslbench.algorithms.base import Algorithm
from sslbench.building import build
from sslbench.config import Settings, conf_dir
from sslbench.core import Batch, Progress, StepOutput
from sslbench.data.batches import BatchSource
from sslbench.engine.loop import TrainingState, training_step
from sslbench.run import run
from sslbench.setup import build_models, parameters_of, prepare_data
from sslbench.tracking.jsonl import JsonlTracker

ALGORITHMS = sorted(path.stem for path in (conf_dir() / "algorithm").glob("*.yaml"))
CPU = torch.device("cpu")

MakeSettings = Callable[..., Settings]
pytestmark = pytest.mark.parametrize("name", ALGORITHMS)


class Stage:
    """An algorithm with its models and one batch, ready for a step in the middle of a run."""

    def __init__(self, settings: Settings, **arguments: Any) -> None:
        data = prepare_data(settings, CPU)
        self.algorithm: Algorithm = build(settings.algorithm, "algorithm", **arguments)
        self.models = build_models(settings, self.algorithm, data, CPU)
        self.batches = BatchSource(
            data.train, data.targets, data.split, self.algorithm.views, 20, 30, settings.seed, CPU
        )
        self.batch = self.batches.next()
        self.progress = Progress(torch.tensor(50.0), 100)

    def step(self) -> StepOutput:
        return self.algorithm.step(self.models, self.batch, self.progress)

    def trained(self) -> list[nn.Parameter]:
        return parameters_of(self.models, self.algorithm.trained)

    def state(self) -> TrainingState:
        optimizer = torch.optim.SGD(self.trained(), lr=0.1)
        return TrainingState(self.algorithm, self.models, optimizer, self.batches)


@pytest.fixture
def settings(name: str, settings_of: MakeSettings) -> Settings:
    return settings_of(f"algorithm={name}")


def test_views_are_those_declared(settings: Settings) -> None:
    stage = Stage(settings)
    views = stage.algorithm.views
    assert len(stage.batch.labelled) == len(views.labelled)
    assert len(stage.batch.unlabelled) == len(views.unlabelled)
    assert all(view.shape == (30, 1, 8, 8) for view in stage.batch.unlabelled)


def test_unlabelled_images_send_a_gradient_into_the_student(settings: Settings) -> None:
    stage = Stage(settings)
    if not stage.algorithm.views.unlabelled:
        pytest.skip("uses labelled images only")
    output = stage.step()
    unlabelled = output.loss - output.terms["supervised"]
    assert unlabelled.item() > 0
    gradients = torch.autograd.grad(unlabelled, stage.trained(), allow_unused=True)
    assert any(g is not None and g.abs().max() > 0 for g in gradients)
    assert gradients[0] is not None
    assert gradients[0].abs().max() > 0, "the first layer learns nothing from unlabelled images"


def test_no_gradient_into_the_target_or_an_untrained_module(settings: Settings) -> None:
    seen: list[Tensor] = []

    def spy(logits: Tensor, target: Tensor) -> Tensor:
        seen.append(target)
        return (logits.log_softmax(1).exp() - target).square().mean(1)

    stage = Stage(settings, **({"distance": spy} if "distance" in settings.algorithm else {}))
    stage.step().loss.backward()
    assert bool(seen) == ("distance" in settings.algorithm)
    assert all(not target.requires_grad for target in seen)
    for name, model in stage.models.items():
        if name not in stage.algorithm.trained:
            assert all(p.grad is None for p in model.parameters())


def test_batch_norm_sees_labelled_and_clean_unlabelled_passes_only(settings: Settings) -> None:
    stage = Stage(settings)
    reference = copy.deepcopy(stage.models["student"])
    reference(stage.batch.labelled[0])
    if stage.batch.unlabelled:
        reference(stage.batch.unlabelled[0])
    stage.step()
    for key, value in reference.named_buffers():
        torch.testing.assert_close(
            stage.models["student"].get_buffer(key), value, msg=lambda m, k=key: f"{k}: {m}"
        )


class NoReadBack(TorchDispatchMode):
    """Fails on operations that make the host wait for the device."""

    WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "unique")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket._qualified_op_name.removeprefix("aten::")
        assert name not in self.WAITS, f"{name} waits for the device"
        if name.startswith("index"):
            masks = [arg for group in args if isinstance(group, list) for arg in group if arg is not None]
            assert all(mask.dtype != torch.bool for mask in masks), "a boolean mask waits for the device"
        return func(*args, **(kwargs or {}))


def test_a_step_never_waits_for_the_device(settings: Settings) -> None:
    stage = Stage(settings)
    state = stage.state()
    training_step(state, stage.batch, stage.progress, None)  # the optimizer's first step makes its state
    with NoReadBack():
        batch = stage.batches.next()
        training_step(state, batch, stage.progress, None)


def test_bfloat16_passes_keep_their_gradients(settings: Settings) -> None:
    stage = Stage(settings)
    training_step(stage.state(), stage.batch, stage.progress, torch.bfloat16)
    for parameter in stage.trained():
        assert parameter.grad is not None
    first = stage.trained()[0]
    assert first.grad is not None
    assert first.grad.abs().max() > 0


def test_training_mode_and_modules_survive_a_step(settings: Settings) -> None:
    stage = Stage(settings)
    training_step(stage.state(), stage.batch, stage.progress, None)
    stage.algorithm.after_step(stage.models, stage.progress)
    for name in stage.algorithm.trained:
        assert all(m.training for m in stage.models[name].modules())
        assert all(
            m.track_running_stats for m in stage.models[name].modules() if isinstance(m, nn.BatchNorm1d)
        )


def test_predictors_and_trained_are_modules(settings: Settings) -> None:
    stage = Stage(settings)
    assert stage.algorithm.predictors
    assert {*stage.algorithm.predictors, *stage.algorithm.trained} <= set(stage.models)


def test_every_distance_composes(name: str, settings_of: MakeSettings) -> None:
    for loss in ("mse", "l1", "kl", "js", "ce"):
        stage = Stage(settings_of(f"algorithm={name}", f"loss={loss}"))
        assert stage.step().loss.isfinite()


def test_resumed_run_equals_an_uninterrupted_one(
    name: str, settings_of: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dropout = (f"algorithm={name}", "model.dropout=0.2", "schedule=exponential", "schedule.every=3")
    whole = run(settings_of(*dropout, f"run_dir={tmp_path / 'whole'}"))

    def stop_at_step_6(self: JsonlTracker, step: int) -> None:
        if step == 6:
            raise KeyboardInterrupt

    broken = settings_of(*dropout, f"run_dir={tmp_path / 'broken'}")
    with monkeypatch.context() as patch:
        patch.setattr(JsonlTracker, "advance", stop_at_step_6)
        with pytest.raises(KeyboardInterrupt):
            run(broken)
    status = json.loads((tmp_path / "broken" / "status.json").read_text())
    assert status["status"] == "interrupted"
    assert not (tmp_path / "broken" / "result.json").exists()
    resumed = run(broken)

    timing = ("train_seconds", "steps_per_second", "run_id", "overrides", "git_commit")
    assert {k: v for k, v in resumed.items() if k not in timing} == {
        k: v for k, v in whole.items() if k not in timing
    }
    weights = [(tmp_path / folder / "model.safetensors").read_bytes() for folder in ("whole", "broken")]
    assert weights[0] == weights[1]
    last = [
        torch.load(tmp_path / folder / "checkpoint" / "last.pt", weights_only=True)
        for folder in ("whole", "broken")
    ]
    torch.testing.assert_close(last[0]["models"], last[1]["models"], rtol=0, atol=0)
    curves = [
        [json.loads(line) for line in (tmp_path / folder / "metrics.jsonl").read_text().splitlines()]
        for folder in ("whole", "broken")
    ]
    for one, other in zip(*curves, strict=True):
        assert {k: v for k, v in one.items() if not k.startswith("time/")} == {
            k: v for k, v in other.items() if not k.startswith("time/")
        }


def test_state_round_trip(settings: Settings) -> None:
    stage = Stage(settings)
    state = stage.state()
    for _ in range(3):
        training_step(state, stage.batches.next(), stage.progress, None)
    saved = copy.deepcopy(state.state_dict())
    expected = stage.batches.next()
    training_step(state, expected, stage.progress, None)
    after = copy.deepcopy({name: model.state_dict() for name, model in stage.models.items()})

    fresh = Stage(settings)
    other = fresh.state()
    other.load_state_dict(saved)
    batch = fresh.batches.next()
    assert_equal_batches(batch, expected)
    training_step(other, batch, fresh.progress, None)
    for name, model in fresh.models.items():
        torch.testing.assert_close(dict(model.state_dict()), dict(after[name]), rtol=0, atol=0)


def assert_equal_batches(one: Batch, other: Batch) -> None:
    for a, b in zip((*one.labelled, *one.unlabelled), (*other.labelled, *other.unlabelled), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(one.targets, other.targets)
    assert torch.equal(one.unlabelled_index, other.unlabelled_index)
