"""Every algorithm on a stand-in accelerator: one device, no step that waits, the results of the CPU."""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor

from helpers.shipped import ALGORITHMS, FIRST_OF_EACH_CLASS, OVERRIDES
from helpers.standin import CPU, DEVICE, watching
from helpers.stepping import state_of, trained
from sslbench.algorithms.supervised import Supervised
from sslbench.config.schema import Settings, conf_dir
from sslbench.core import Progress, StepOutput
from sslbench.engine.evaluation import evaluate
from sslbench.engine.state import TrainingState
from sslbench.engine.step import NextStep, eager_steps
from sslbench.run.train import run
from sslbench.seeding import stream
from sslbench.tracking import Fanout

MakeSettings = Callable[..., Settings]


@pytest.fixture(autouse=True)
def _generators_of_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in draws its random numbers from generators of the CPU."""
    for module in ("data.batches", "run.view_sheet"):
        monkeypatch.setattr(f"sslbench.{module}.stream", lambda seed, name, device="cpu": stream(seed, name))


def variants() -> list[Any]:
    """Every algorithm, with every distance if it has one."""
    losses = sorted(path.stem for path in (conf_dir() / "loss").glob("*.yaml"))
    found = []
    for name in ALGORITHMS:
        has_distance = "distance" in OmegaConf.load(conf_dir() / "algorithm" / f"{name}.yaml")
        for loss in losses if has_distance else [None]:
            words = [f"algorithm={name}", *([f"loss={loss}"] if loss else []), *OVERRIDES.get(name, [])]
            found.append(pytest.param(words, id="-".join(filter(None, (name, loss)))))
    return found


def watched(seen: Counter[str], state: TrainingState, progress: Progress) -> NextStep:
    """Steps that note in `seen` what they wait for and copy."""
    take = eager_steps(state, progress, None)

    def take_watched() -> None:
        with watching() as counted:
            take()
        seen.update(counted)

    return take_watched


def assert_steps_equal_those_of_the_cpu(settings: Settings) -> None:
    """In every stage, bit for bit, and without a wait or a copy."""
    seen: Counter[str] = Counter()
    expected = trained(settings, partial(watched, seen), 3, CPU)
    found = trained(settings, partial(watched, seen), 3, DEVICE)
    assert found[0] == expected[0]
    torch.testing.assert_close({k: v.cpu() for k, v in found[1].items()}, expected[1], rtol=0, atol=0)
    assert {value.device for value in found[1].values()} == {DEVICE}
    assert not seen


@pytest.mark.parametrize("words", variants())
def test_a_step_stays_on_the_device(words: list[str], settings_of: MakeSettings) -> None:
    assert_steps_equal_those_of_the_cpu(settings_of(*words, "model.dropout=0.1"))


@pytest.mark.parametrize(
    "images",
    [
        ["dataset.images.crop=1", "dataset.images.flip=true", "dataset.images.noise=0.1"],
        ["dataset.images.preprocess=gcn_zca"],
    ],
)
def test_views_are_cut_on_the_device(images: list[str], settings_of: MakeSettings) -> None:
    anything = "dataset.images.valid=[crop,flip,noise]"
    assert_steps_equal_those_of_the_cpu(
        settings_of("algorithm=pi_model", anything, *images, "model.dropout=0.1")
    )


@pytest.mark.parametrize("name", FIRST_OF_EACH_CLASS)
def test_a_run_ends_as_on_the_cpu(
    name: str, settings_of: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through stages, evaluations and pictures; on the device, it is stopped on the way and started again."""
    words = [f"algorithm={name}", "model.dropout=0.1", "checkpoint_every=3", *OVERRIDES.get(name, [])]
    expected = run(settings_of(*words, f"run_dir={tmp_path / 'cpu'}"))
    monkeypatch.setattr("sslbench.run.train.pick_device", lambda _: DEVICE)
    settings = settings_of(*words, f"run_dir={tmp_path / 'device'}")

    def stop(self: Fanout, step: int) -> None:
        if step == 5:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Fanout, "advance", stop)
        with pytest.raises(KeyboardInterrupt):
            run(settings)
    result = run(settings)

    apart = ("train_seconds", "steps_per_second", "run_id", "overrides")
    assert {k: v for k, v in result.items() if k not in apart} == {
        k: v for k, v in expected.items() if k not in apart
    }
    ours, theirs = (contents(tmp_path / folder) for folder in ("device", "cpu"))
    assert ours == theirs
    pictures = {name for name in ours if name.startswith("pictures/")}
    assert "pictures/views.png" in pictures
    assert (len(pictures) > 1) == (name == "sgan")


def contents(folder: Path) -> dict[str, Any]:
    """What a run leaves: its curves without times, its weights, and its pictures."""
    curves = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    files = [folder / "model.safetensors", *folder.glob("pictures/*")]
    return {
        "curves": [{k: v for k, v in point.items() if not k.startswith("time/")} for point in curves],
        **{str(path.relative_to(folder)): path.read_bytes() for path in files},
    }


def test_an_evaluation_waits_once_at_its_end(settings_of: MakeSettings) -> None:
    state, parts = state_of(settings_of("algorithm=supervised"), DEVICE)
    with watching() as seen:
        evaluate(state.models["student"], parts.test, batch_size=50)
    assert all(" copies to the host at engine/evaluation.py" in event for event in seen)
    assert seen.total() == 2, "the logits and the targets"


def spoiled(monkeypatch: pytest.MonkeyPatch, fault: Callable[[Tensor], object]) -> None:
    """Let each step of the supervised baseline do `fault` to its images."""
    honest = Supervised.step

    def step(self: Supervised, models: Any, batch: Any, progress: Progress) -> StepOutput:
        fault(batch.labelled[0])
        return honest(self, models, batch, progress)

    monkeypatch.setattr(Supervised, "step", step)


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (lambda images: images.sum().item(), "_local_scalar_dense waits for the device"),
        (lambda images: 1 if images.sum() > 0 else 0, "_local_scalar_dense waits for the device"),
        (lambda images: images[images > 0], "index by a mask waits for the device"),
        (lambda images: images.nonzero(), "nonzero waits for the device"),
        (lambda images: images.masked_select(images > 0), "masked_select waits for the device"),
        (lambda images: images.cpu(), "_to_copy copies to the host"),
        (lambda images: torch.empty(3).copy_(images[0, 0, 0, :3]), "copy_ copies to the host"),
        (lambda images: torch.empty(0).to(images.device), "copy_ copies to the device"),
        (lambda images: torch.tensor(0.5, device=images.device), "copy_ copies to the device"),
        (lambda images: images[torch.tensor([0])], "index by positions on the host copies to the device"),
    ],
)
def test_a_step_that_waits_or_copies_is_noticed(
    fault: Callable[[Tensor], object], told: str, settings_of: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoiled(monkeypatch, fault)
    seen: Counter[str] = Counter()
    trained(settings_of("algorithm=supervised"), partial(watched, seen), 3, DEVICE)
    assert {event.rpartition(" at ")[0]: times for event, times in seen.items()} == {told: 3}


@pytest.mark.parametrize(
    "fault",
    [
        lambda images: images + torch.zeros(8),
        lambda images: torch.where(torch.zeros(8, dtype=torch.bool), images, images),
        lambda images: torch.zeros(30)[images[:, 0, 0, 0].long()],
        lambda images: torch.cat([images, torch.zeros_like(images, device="cpu")]),
    ],
)
def test_a_step_on_two_devices_is_refused(
    fault: Callable[[Tensor], object], settings_of: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoiled(monkeypatch, fault)
    with pytest.raises(RuntimeError, match="tensors are on two devices"):
        trained(settings_of("algorithm=supervised"), partial(watched, Counter()), 1, DEVICE)
