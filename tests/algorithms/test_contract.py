"""What every algorithm in ``conf/algorithm`` must keep to; each test is a trap that known code fell into."""

from __future__ import annotations

import copy
import inspect
import json
import math
import signal
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from helpers.shipped import ALGORITHMS, FIRST_OF_EACH_CLASS, OVERRIDES
from sslbench.algorithms.protocol import AnyAlgorithm, Diagnosed, SampleImages, stages_of
from sslbench.algorithms.protocol_checks import check_algorithm, check_modules
from sslbench.config.build import build
from sslbench.config.schema import Settings, conf_dir, register
from sslbench.core import Batch, Progress, StepOutput
from sslbench.data.batches import BatchSource
from sslbench.engine.diagnostics import DiagnosticData
from sslbench.engine.state import TrainingState
from sslbench.engine.step import training_step
from sslbench.errors import UserError
from sslbench.run.setup import build_models, prepare_data
from sslbench.run.train import run
from sslbench.rundir.checkpoint import load_checkpoint
from sslbench.tracking import Fanout

CPU = torch.device("cpu")
LR = 0.1

MakeSettings = Callable[..., Settings]


def shipped_nodes() -> dict[str, Any]:
    """The configuration of each algorithm, as it is shipped."""
    register()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        composed = {name: compose("config", overrides=[f"algorithm={name}"]) for name in ALGORITHMS}
    return {name: OmegaConf.to_container(every.algorithm, resolve=True) for name, every in composed.items()}


NODES = shipped_nodes()
STAGES = {name: len(stages_of(build(node, "algorithm"))) for name, node in NODES.items()}
each_stage = pytest.mark.parametrize(
    ("name", "stage"),
    [
        pytest.param(algorithm, stage, id=f"{algorithm}-{stage + 1}")
        for algorithm, count in STAGES.items()
        for stage in range(count)
    ],
)


class Midway:
    """An algorithm with its models and one batch, ready for a step in the middle of a stage."""

    def __init__(
        self, settings: Settings, stage: int = 0, *, wrong_labels: bool = False, **arguments: Any
    ) -> None:
        data = prepare_data(settings, CPU)
        if wrong_labels:
            others = torch.ones(len(data.targets), dtype=torch.bool)
            others[data.split.labelled] = False
            data.targets[others] = (data.targets[others] + 1) % data.spec.num_classes
        self.algorithm: AnyAlgorithm = build(settings.algorithm, "algorithm", **arguments)
        self.models = build_models(settings, self.algorithm, data, CPU)
        views = stages_of(self.algorithm)[0].views
        self.batches = BatchSource(data.train, data.targets, data.split, views, 20, 30, settings.seed, CPU)
        new_optimizer = partial(torch.optim.SGD, lr=LR, momentum=0.9)
        self.state = TrainingState(self.algorithm, self.models, new_optimizer, self.batches)
        self.parts = DiagnosticData(data.train, data.targets, data.split, data.valid, data.test)
        for later in range(1, stage + 1):
            self.state.begin_stage(later, self.parts.training)
        self.declared = self.state.current_stage
        self.batch = self.batches.next()
        self.progress = Progress(torch.tensor(50.0), 100, stage)

    @property
    def updated(self) -> tuple[str, ...]:
        return tuple(name for names in self.declared.optimizers.values() for name in names)

    def step(self, batch: Batch | None = None) -> StepOutput:
        output = self.algorithm.step(self.models, batch or self.batch, self.progress)
        assert isinstance(output, StepOutput)
        return output

    def train(self, batch: Batch | None = None, autocast: torch.dtype | None = None) -> StepOutput:
        return training_step(self.state, batch or self.batch, self.progress, autocast)


@pytest.fixture
def settings(name: str, settings_of: MakeSettings) -> Settings:
    return settings_of(f"algorithm={name}", *OVERRIDES.get(name, []))


@each_stage
def test_views_are_those_declared(settings: Settings, stage: int) -> None:
    midway = Midway(settings, stage)
    views, batch = midway.declared.views, midway.batch
    assert len(batch.labelled) == len(views.labelled)
    assert len(batch.unlabelled) == len(views.unlabelled)
    assert all(view.shape == (20, 1, 8, 8) for view in batch.labelled)
    assert all(view.shape == (30, 1, 8, 8) for view in batch.unlabelled)


@each_stage
def test_unlabelled_images_send_a_gradient_into_each_trained_module(settings: Settings, stage: int) -> None:
    midway = Midway(settings, stage)
    if not midway.declared.views.unlabelled:
        pytest.skip("uses labelled images only")
    first_layers = [next(midway.models[name].parameters()) for name in midway.declared.optimizers["main"]]

    def gradients(batch: Batch) -> list[Tensor]:
        torch.manual_seed(0)
        output = midway.step(batch)
        unlabelled = output.losses["main"] - output.terms.get("supervised", 0.0)
        assert unlabelled.item() != 0  # below 0 where a term on labelled images is subtracted
        return list(torch.autograd.grad(unlabelled, first_layers))

    negatives = replace(midway.batch, unlabelled=tuple(-view for view in midway.batch.unlabelled))
    midway.step(negatives)  # what is remembered of each image begins empty
    for ours, theirs in zip(gradients(midway.batch), gradients(negatives), strict=True):
        assert ours.abs().max() > 0, "the first layer learns nothing from unlabelled images"
        assert not torch.equal(ours, theirs), "it would learn the same from other images"


@each_stage
def test_no_gradient_into_the_target_or_an_untrained_module(settings: Settings, stage: int) -> None:
    seen: list[Tensor] = []

    def spy(logits: Tensor, target: Tensor) -> Tensor:
        seen.append(target)
        return (logits.log_softmax(1).exp() - target).square().mean(1)

    midway = Midway(settings, stage, **({"distance": spy} if "distance" in settings.algorithm else {}))
    output = midway.step()
    torch.stack(list(output.losses.values())).sum().backward()
    assert bool(seen) == ("distance" in settings.algorithm)
    assert all(not target.requires_grad for target in seen)
    for name, model in midway.models.items():
        if name not in midway.updated:
            assert all(p.grad is None for p in model.parameters()), name


@each_stage
def test_each_module_learns_from_its_own_loss_alone(settings: Settings, stage: int) -> None:
    untouched, trained = Midway(settings, stage), Midway(settings, stage)
    torch.manual_seed(0)
    output = untouched.step()
    assert set(output.losses) == set(untouched.declared.optimizers)
    torch.manual_seed(0)
    trained.train()
    for optimizer, own_loss in output.losses.items():
        before, after = (midway.state.parameters_of(optimizer) for midway in (untouched, trained))
        expected = torch.autograd.grad(own_loss, before, retain_graph=True, allow_unused=True)
        assert any(gradient is not None and gradient.abs().max() > 0 for gradient in expected)
        for start, end, gradient in zip(before, after, expected, strict=True):
            torch.testing.assert_close(end.grad, gradient, rtol=1e-5, atol=1e-8)
            torch.testing.assert_close(end, start if gradient is None else start - LR * gradient)


@each_stage
def test_pseudo_labels_are_constant_distributions(settings: Settings, stage: int) -> None:
    midway = Midway(settings, stage)
    found = midway.step().pseudo_labels
    if found is None:
        pytest.skip("hands over no pseudo-labels")
    assert found.probabilities.shape[0] == len(found.weights) == 30
    assert not found.probabilities.requires_grad
    assert not found.weights.requires_grad
    assert found.weights.dtype == found.probabilities.dtype == torch.float32
    assert (found.weights >= 0).all()
    torch.testing.assert_close(found.probabilities.sum(dim=1), torch.ones(30))


def batch_statistics(model: nn.Module) -> dict[str, Tensor]:
    return {
        f"{place}.{name}": buffer.clone()
        for place, module in model.named_modules()
        if isinstance(module, _BatchNorm)
        for name, buffer in module.named_buffers()
    }


@each_stage
def test_batch_norm_sees_labelled_and_clean_unlabelled_passes_only(settings: Settings, stage: int) -> None:
    midway = Midway(settings, stage)
    before = copy.deepcopy(midway.models)
    midway.step()
    labelled, unlabelled = midway.batch.labelled[:1], midway.batch.unlabelled[:1]
    ordinary = [passes for passes in ((*labelled, *unlabelled), unlabelled, labelled) if passes]
    if settings.algorithm.get("joint_batch"):  # the one exception: all views in one pass, strong ones too
        ordinary = [(torch.cat([*midway.batch.labelled, *midway.batch.unlabelled]),)]
    for name, model in midway.models.items():
        is_trained = name in midway.declared.optimizers["main"]
        if name in midway.updated and name not in midway.declared.predictors:
            continue  # a generator sees noise, and a further head sees features, not images
        found = batch_statistics(model)
        assert found or not is_trained, "without batch norm, this shows nothing"
        matches = []
        for passes in ordinary if is_trained else [()]:
            reference = copy.deepcopy(before[name])
            for images in passes:
                reference(images)
            expected = batch_statistics(reference)
            matches.append(all(torch.allclose(found[key], expected[key]) for key in found))
        assert any(matches), name


@each_stage
def test_bfloat16_passes_keep_their_gradients(settings: Settings, stage: int) -> None:
    midway = Midway(settings, stage)
    midway.train(autocast=torch.bfloat16)
    for name in midway.updated:
        gradients = [parameter.grad for parameter in midway.models[name].parameters()]
        assert all(gradient is not None for gradient in gradients), name
        assert gradients[0] is not None
        assert gradients[0].abs().max() > 0, name


@each_stage
def test_training_mode_and_modules_survive_a_step(settings: Settings, stage: int) -> None:
    midway = Midway(settings, stage)
    midway.train()
    for name in midway.updated:
        modules = list(midway.models[name].modules())
        assert all(module.training for module in modules)
        assert all(module.track_running_stats for module in modules if isinstance(module, _BatchNorm))


@each_stage
def test_the_labels_of_other_images_reach_no_weight(settings: Settings, stage: int) -> None:
    runs = [Midway(settings, stage, wrong_labels=wrong) for wrong in (False, True)]
    for midway in runs:
        torch.manual_seed(0)
        midway.train()
        midway.train(midway.batches.next())
    right, wrong = (dict(midway.state.state_dict())["models"] for midway in runs)
    torch.testing.assert_close(wrong, right, rtol=0, atol=0)


@each_stage
def test_each_module_has_one_part(settings: Settings, stage: int) -> None:
    midway = Midway(settings, stage)
    assert len(midway.updated) == len(set(midway.updated)), "two optimizers update one module"
    assert not set(midway.updated) & set(midway.declared.averages)
    check_algorithm(midway.algorithm)
    check_modules(midway.algorithm, midway.models)


@each_stage
def test_looking_at_a_method_changes_nothing(settings: Settings, stage: int) -> None:
    midway = Midway(settings, stage)
    before = copy.deepcopy(midway.state.state_dict())
    if isinstance(midway.algorithm, Diagnosed):
        metrics = midway.algorithm.diagnose(midway.models, stage, midway.parts)
        assert all(key.count("/") == 1 and math.isfinite(value) for key, value in metrics.items())
    if isinstance(midway.algorithm, SampleImages):
        for name, picture in midway.algorithm.sample_images(midway.models).items():
            assert name.isidentifier(), "it becomes the name of a file"
            assert picture.dtype == torch.uint8
            assert picture.shape[2:] in ((1,), (3,))
    after = midway.state.state_dict()
    torch.testing.assert_close(after["models"], before["models"], rtol=0, atol=0)
    assert torch.equal(after["rng_state"], before["rng_state"])
    assert all(model.training for model in midway.models.values())


#: Of each argument, the nearest values that are allowed and that are not.
BOUNDS: dict[str, tuple[list[float], list[float]]] = {
    "alpha": ([0.01], [0.0]),
    "codebook_seed": ([0, 2**32 - 1], [-1, 2**32]),
    "decay": ([0.0, 0.999], [-0.1, 1.0]),
    "ema": ([0.0, 0.999], [-0.1, 1.0]),
    "eps": ([0.01], [0.0]),
    "max_cosine": ([0.01, 1.0], [0.0, 1.1]),
    "min_similarity": ([-1.0, 1.0], [-1.1, 1.1]),
    "rounds": ([1, 25], [0, 26]),
    "temperature": ([0.01], [0.0]),
    "threshold": ([0.0, 1.0], [-0.1, 1.1]),
    "xi": ([1e-6], [0.0]),
}
#: Of other arguments, by their type: most weights may be zero, and most counts not.
USUAL_BOUNDS: dict[str, tuple[list[Any], list[Any]]] = {
    "int": ([1], [0]),
    "float": ([0.0], [-0.1]),
    "str": ([], ["no such"]),
}


def arguments() -> list[Any]:
    """Each argument of each algorithm that is a number or a name, with its bounds."""
    found = []
    for name, node in NODES.items():
        for key, parameter in inspect.signature(resolve_name(node["_target_"])).parameters.items():
            kind = inspect.formatannotation(parameter.annotation).removesuffix(" | None")
            if usual := USUAL_BOUNDS.get(kind):
                found.append(pytest.param(name, key, *BOUNDS.get(key, usual), id=f"{name}-{key}"))
    return found


@pytest.mark.parametrize(("name", "key", "allowed", "refused"), arguments())
def test_values_out_of_range_are_refused_by_name(
    name: str, key: str, allowed: list[Any], refused: list[Any]
) -> None:
    for value in allowed:
        build(NODES[name], "algorithm", **{key: value})
    for value in refused:
        with pytest.raises(UserError, match=f"^algorithm: {key}={value}"):
            build(NODES[name], "algorithm", **{key: value})


def ask() -> None:
    """A request to end, during a step: the run ends after it, with a checkpoint."""
    signal.raise_signal(signal.SIGTERM)


def break_off() -> None:
    """As a kill does: all since the last checkpoint is lost."""
    raise KeyboardInterrupt


@pytest.mark.fault(
    "every algorithm stopped in each of its steps, by SIGTERM or without warning, and started again",
    "equal bit for bit to a run that was not: weights, curves, result, pictures",
)
@pytest.mark.parametrize("name", FIRST_OF_EACH_CLASS)
def test_resumed_run_equals_an_uninterrupted_one(
    name: str,
    settings_of: MakeSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tried: Callable[[int], None],
    thorough: bool,
) -> None:
    chance = ("model.dropout=0.2", "schedule=exponential", "schedule.every=3", "deterministic=true")
    often = (*chance, "steps=9", "eval_every=4", "log_every=3", "checkpoint_every=2")
    words = (f"algorithm={name}", *often, *OVERRIDES.get(name, []))
    expected = run(settings_of(*words, f"run_dir={tmp_path / 'whole'}"))
    plans = [[(3, ask), (7, break_off)]]  # where there are two stages, one stop in each
    if thorough:
        plans = [[(stop, ask) for stop in range(1, 10)], [(stop, break_off) for stop in range(2, 10)]]
    for number, stops in enumerate(plans):
        folder = tmp_path / f"broken_{number}"
        broken = settings_of(*words, f"run_dir={folder}")
        for stop, stop_run in stops:
            stop_and_look(broken, stop, stop_run, monkeypatch)
        assert_equal_runs(run(broken), expected, folder, tmp_path / "whole")
    tried(sum(map(len, plans)))


def stop_and_look(
    settings: Settings, stop: int, stop_run: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Go on with the run, which is stopped in its step `stop`, and look at what it leaves."""

    def advance(self: Fanout, step: int) -> None:
        if step == stop:
            stop_run()

    with monkeypatch.context() as patch:
        patch.setattr(Fanout, "advance", advance)
        with pytest.raises(KeyboardInterrupt):
            run(settings)
    folder = settings.directory()
    assert json.loads((folder / "status.json").read_text())["status"] == "interrupted"
    assert not (folder / "result.json").exists()
    left = folder / "checkpoint" / "last.pt"
    reached = load_checkpoint(left)["step"] if left.exists() else 0
    assert reached == (stop if stop_run is ask else (stop - 1) // 2 * 2)


def assert_equal_runs(resumed: dict[str, Any], expected: dict[str, Any], broken: Path, whole: Path) -> None:
    """All that two runs gave back and left in their folders is the same but for times."""
    apart = ("train_seconds", "steps_per_second", "run_id", "overrides", "git_commit")
    assert {k: v for k, v in resumed.items() if k not in apart} == {
        k: v for k, v in expected.items() if k not in apart
    }
    folders = [whole, broken]
    weights = [(folder / "model.safetensors").read_bytes() for folder in folders]
    assert weights[0] == weights[1]
    last = [load_checkpoint(folder / "checkpoint" / "last.pt") for folder in folders]
    for part in ("models", "optimizers", "batches", "rng_state"):
        torch.testing.assert_close(last[0][part], last[1][part], rtol=0, atol=0)
    curves = [
        [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for folder in folders
    ]
    for one, other in zip(*curves, strict=True):
        assert {k: v for k, v in one.items() if not k.startswith("time/")} == {
            k: v for k, v in other.items() if not k.startswith("time/")
        }
    seconds = [point["time/train_seconds"] for point in curves[1]]
    assert seconds == sorted(seconds)
    pictures = [{path.name: path.read_bytes() for path in folder.glob("pictures/*")} for folder in folders]
    assert pictures[0] == pictures[1]


@each_stage
def test_state_round_trip(settings: Settings, stage: int) -> None:
    midway = Midway(settings, stage)
    for _ in range(3):
        midway.train(midway.batches.next())
    saved = copy.deepcopy(midway.state.state_dict())
    expected = midway.batches.next()
    midway.train(expected)

    fresh = Midway(settings)  # in the first stage, whichever it was saved in
    fresh.state.load_state_dict(saved, 1000)
    assert fresh.state.stage == stage
    batch = fresh.batches.next()
    assert_equal_batches(batch, expected)
    training_step(fresh.state, batch, midway.progress, None)
    for name, model in fresh.models.items():
        there = midway.models[name].state_dict()
        torch.testing.assert_close(dict(model.state_dict()), dict(there), rtol=0, atol=0)


def assert_equal_batches(one: Batch, other: Batch) -> None:
    for a, b in zip((*one.labelled, *one.unlabelled), (*other.labelled, *other.unlabelled), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(one.targets, other.targets)
    assert torch.equal(one.labelled_index, other.labelled_index)
    assert torch.equal(one.unlabelled_index, other.unlabelled_index)
