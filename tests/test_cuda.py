"""What needs a GPU; skipped without one. ``pytest -m gpu`` runs these alone."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from helpers.shipped import ALGORITHMS, OVERRIDES
from sslbench.algorithms.protocol import AnyAlgorithm, stages_of
from sslbench.config.build import build
from sslbench.config.schema import Settings
from sslbench.core import Progress
from sslbench.data.batches import BatchSource
from sslbench.run.setup import build_models, prepare_data, prepare_process
from sslbench.run.train import run
from sslbench.tracking import Fanout

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


MakeSettings = Callable[..., Settings]


@pytest.mark.parametrize("model", ["mlp", "cnn", "wrn"])
def test_first_loss_on_cuda_is_that_on_the_cpu(settings_of: MakeSettings, model: str) -> None:
    """In fp32, with no augmentation: its random numbers come from the device's own generator."""
    settings = settings_of(f"model={model}", "algorithm=supervised", "dataset.images.crop=0")
    losses = []
    for device in (torch.device("cpu"), torch.device("cuda")):
        prepare_process(settings)
        data = prepare_data(settings, device)
        algorithm: AnyAlgorithm = build(settings.algorithm, "algorithm")
        models = build_models(settings, algorithm, data, device)
        views = stages_of(algorithm)[0].views
        batches = BatchSource(data.train, data.targets, data.split, views, 20, 30, 0, device)
        output = algorithm.step(models, batches.next(), Progress(torch.zeros((), device=device), 10))
        losses.append(output.losses["main"].item())
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("graph", ["false", "true"])
def test_resumed_run_equals_an_uninterrupted_one(
    settings_of: MakeSettings, name: str, graph: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [f"algorithm={name}", "model=cnn", "device=cuda", "precision=fp32", "deterministic=true"]
    words += [f"graph={graph}", "steps=24", *OVERRIDES.get(name, [])]
    whole, broken = (settings_of(*words, f"run_dir={tmp_path / folder}") for folder in ("whole", "broken"))
    run(whole)

    def advance(self: Fanout, step: int) -> None:
        if step == 9:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Fanout, "advance", advance)
        with pytest.raises(KeyboardInterrupt):
            run(broken)
    run(broken)
    weights = [(tmp_path / folder / "model.safetensors").read_bytes() for folder in ("whole", "broken")]
    assert weights[0] == weights[1]


@pytest.mark.parametrize("fast", [[], ["graph=true"], ["compile=true"], ["graph=true", "compile=true"]])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_fast_paths_run_to_a_result(settings_of: MakeSettings, fast: list[str], precision: str) -> None:
    words = ["algorithm=mean_teacher", "model=cnn", "device=cuda", f"precision={precision}", "steps=24"]
    assert run(settings_of(*words, *fast))["precision"] == precision


@pytest.mark.parametrize("algorithm", ["supervised", "pi_model", "vat", "mixmatch", "self_training", "sgan"])
def test_bf16_runs_to_a_result(settings_of: MakeSettings, algorithm: str) -> None:
    result = run(settings_of(f"algorithm={algorithm}", "device=cuda", "precision=bf16", "model=cnn"))
    assert result["precision"] == "bf16"
    assert result["device"] == torch.cuda.get_device_name()
