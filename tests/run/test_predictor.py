"""What a run saves for prediction, and its evaluation from that."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from sslbench import __version__
from sslbench.algorithms.protocol import AnyAlgorithm
from sslbench.config import saved
from sslbench.config.build import build
from sslbench.config.schema import Settings
from sslbench.errors import UserError
from sslbench.run.evaluate import evaluate_run
from sslbench.run.predictor import load_predictor, selected_module
from sslbench.run.setup import build_models, prepare_data
from sslbench.run.train import run
from sslbench.rundir.parsing import load_result
from sslbench.rundir.weights import load_weights

CPU = torch.device("cpu")
MakeSettings = Callable[..., Settings]
#: A run of commit ba4aa75, which wrote no ``model.json``.
OLD_RUN = Path(__file__).parent / "old_run"


def images(count: int, seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)


@pytest.fixture
def data_file(tmp_path: Path) -> Path:
    """A data set of three classes, which images of noise do not tell apart."""
    path = tmp_path / "data.npz"
    labels = {"y_train": np.arange(90) % 3, "y_test": np.arange(30) % 3}
    np.savez(path, x_train=images(90, 0), x_test=images(30, 1), **labels)
    return path


@pytest.fixture
def train(settings_of: MakeSettings, data_file: Path) -> Callable[..., Settings]:
    """Trains on the data file; returns the run's settings."""

    def run_with(*overrides: str) -> Settings:
        counts = ["num_labels=9", "num_valid=20"]
        settings = settings_of("dataset=npz", f"dataset.path={data_file}", *counts, *overrides)
        run(settings)
        return settings

    return run_with


RUNS = [
    ["algorithm=supervised", "model=cnn", "model.width=4"],
    ["algorithm=supervised", "dataset.images.mean=[0.5,0.4,0.3]", "dataset.images.std=[0.2]"],
    ["algorithm=supervised", "dataset.images.preprocess=gcn_zca"],
    ["algorithm=self_training", "steps=9"],
    ["algorithm=mean_teacher", "loss=mse"],
]


@pytest.mark.parametrize("overrides", RUNS, ids=lambda words: " ".join(words[:2]))
def test_prediction_needs_the_folder_of_the_run_alone(
    train: Callable[..., Settings], data_file: Path, overrides: list[str]
) -> None:
    settings = train(*overrides)
    directory = settings.directory()
    # As the run had them: fitted on, and built for, the data set.
    data = prepare_data(settings, CPU)
    algorithm: AnyAlgorithm = build(settings.algorithm, "algorithm")
    trained = build_models(settings, algorithm, data, CPU)[selected_module(algorithm)].eval()
    load_weights(directory / "model.safetensors", trained)
    with torch.no_grad():
        expected = trained(data.test.images.clean(torch.arange(30)))

    data_file.unlink()
    elsewhere = directory.rename(directory.parent / "moved")
    state = torch.get_rng_state()
    predictor = load_predictor(elsewhere, CPU)
    assert torch.equal(torch.get_rng_state(), state), "loading draws no random numbers"
    with torch.no_grad():
        logits = predictor.model(predictor.transform(images(30, 1)))
    torch.testing.assert_close(logits, expected, rtol=0, atol=0)
    assert predictor.class_names == ("0", "1", "2")
    accuracy = (logits.argmax(1) == torch.arange(30) % 3).double().mean().item()
    assert accuracy == pytest.approx(load_result(elsewhere / "result.json").test_acc, abs=1e-12)


def test_the_model_and_its_inputs_are_described(train: Callable[..., Settings]) -> None:
    directory = train(
        "algorithm=mean_teacher", "dataset.images.mean=[0.0]", "dataset.images.std=[0.25]"
    ).directory()
    assert json.loads((directory / "model.json").read_text()) == {
        "schema": 1, "sslbench_version": __version__, "predictor": "teacher", "channels": 3, "height": 8,
        "width": 8, "num_train": 90, "class_names": ["0", "1", "2"], "mean": [0.0], "std": [0.25],
        "preprocess": "none",
    }  # fmt: skip
    assert not (directory / "whitening.safetensors").exists()
    assert load_result(directory / "result.json").sslbench_version == __version__


def test_evaluation_fits_nothing_and_moves_no_training_images(
    train: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = train("dataset.images.preprocess=gcn_zca")
    result = load_result(settings.directory() / "result.json")
    monkeypatch.setattr("sslbench.run.setup.fit", lambda *_: pytest.fail("it fits again"))
    monkeypatch.setattr("sslbench.run.evaluate.prepare_data", lambda *_: pytest.fail("it prepares all data"))
    evaluated = evaluate_run(settings.directory(), "cpu")
    assert evaluated == {key: getattr(result, key) for key in ("val_acc_best", "test_acc", "test_ece")}


def test_a_run_without_a_saved_model_is_evaluated(tmp_path: Path) -> None:
    directory = shutil.copytree(OLD_RUN, tmp_path / "old_run")
    evaluated, result = evaluate_run(directory, "cpu"), load_result(directory / "result.json")
    for key, value in evaluated.items():  # of another processor, the last digits may differ
        assert value == pytest.approx(getattr(result, key), abs=0.004), key
    assert result.sslbench_version is None
    assert saved.load(directory / "config.yaml").steps == 8
    with pytest.raises(UserError, match=r"cannot read .*model\.json: No such file"):
        load_predictor(directory, CPU)


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("model.json", {"schema": 2}, "has schema 2, this version reads schema 1"),
        ("model.json", {"predictor": "nobody"}, r"does not fit the run \('nobody'\)"),
        ("model.json", {"channels": 0}, "'channels' must be greater than or equal to 1, not 0"),
        ("model.json", {"height": 9}, "does not hold the weights of this run's model"),
        ("model.json", {"class_names": ["a"]}, "'class_names' must have at least 2 items"),
        ("model.json", {"class_names": ["a", "b"]}, "does not hold the weights of this run's model"),
        ("model.json", {"std": [0]}, r"does not fit the run \(std=\[0.0\] must be above 0\)"),
        ("model.json", {"preprocess": "other"}, r"does not fit the run \(preprocess=other"),
        ("model.json", {"preprocess": "gcn_zca"}, r"whitening\.safetensors: No such file"),
    ],
)
def test_files_that_do_not_fit_each_other(
    train: Callable[..., Settings], file: str, changes: dict[str, Any], message: str
) -> None:
    directory = train("algorithm=supervised").directory()
    path = directory / file
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(UserError, match=message) as error:
        load_predictor(directory, CPU)
    assert len(str(error.value).splitlines()) == 1
