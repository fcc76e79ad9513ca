"""A finished run, evaluated again from the files in its folder."""

from pathlib import Path

import torch

from sslbench.algorithms.protocol import AnyAlgorithm
from sslbench.config.build import build
from sslbench.config.schema import Settings
from sslbench.engine.device import pick_device
from sslbench.engine.evaluation import EvaluationSet, evaluate
from sslbench.errors import UserError
from sslbench.run.predictor import load_predictor, selected_module, trusted_settings
from sslbench.run.setup import (
    build_models,
    load_data,
    prepare_data,
    prepare_process,
    process_restored,
    whole_set,
)
from sslbench.rundir.records import MODEL, WEIGHTS
from sslbench.rundir.result import read_result
from sslbench.rundir.weights import load_weights
from sslbench.system.paths import exists


def evaluate_run(
    directory: Path, device: str | None = None, data_root: str | None = None, trust: bool = False
) -> dict[str, float]:
    """Evaluate the saved weights of the run in `directory` on its own validation and test images.

    Args:
        directory: the folder of a finished run.
        device: auto, cpu or cuda; None for the kind that the run was trained on.
        data_root: where the data sets are here, if not where they were for the run. Absent files are
            downloaded only there, since the author of the run's configuration chose the other place.
        trust: whether the run's configuration may name classes and functions that do not come with sslbench.

    Returns:
        ``val_acc_best``, ``test_acc`` and ``test_ece``, fractions, under the names of ``result.json``.

    Raises:
        UserError: there is no finished run, its files or data are absent or damaged, or its configuration
            names what is not trusted.
    """
    settings = trusted_settings(directory, trust)
    recorded = read_result(directory)
    if device is None:
        device = "cpu" if recorded["device"] == "cpu" else "cuda"
    if "root" in settings.dataset:
        if data_root is None:
            settings.dataset["download"] = False
        else:
            settings.dataset["root"] = data_root
    target = pick_device(device)
    with process_restored():
        prepare_process(settings)
        if exists(directory / MODEL):
            model, split_hash, valid, test = _from_folder(settings, directory, target, trust)
        else:
            model, split_hash, valid, test = _from_data(settings, directory, target)
        if split_hash != recorded["split_hash"]:
            raise UserError(f"the data are not those that {directory} was trained on: the split differs")
        on_valid, on_test = evaluate(model, valid), evaluate(model, test)
    return {"val_acc_best": on_valid.acc, "test_acc": on_test.acc, "test_ece": on_test.ece}


_Prepared = tuple[torch.nn.Module, str, EvaluationSet, EvaluationSet]


def _from_folder(settings: Settings, directory: Path, device: torch.device, trust: bool) -> _Prepared:
    """Model and transform as saved: of the training images, only those that validate reach the device."""
    predictor = load_predictor(directory, device, trust)
    arrays, split = load_data(settings)
    valid, test = (
        whole_set(predictor.transform.store(images), targets, arrays.num_classes, device)
        for images, targets in (
            (arrays.x_train[split.valid], arrays.y_train[split.valid]),
            (arrays.x_test, arrays.y_test),
        )
    )
    return predictor.model, split.digest, valid, test


def _from_data(settings: Settings, directory: Path, device: torch.device) -> _Prepared:
    """For older runs without ``model.json``: the data give again what it holds."""
    data = prepare_data(settings, device)
    algorithm: AnyAlgorithm = build(settings.algorithm, "algorithm")
    model = build_models(settings, algorithm, data, device)[selected_module(algorithm)]
    load_weights(directory / WEIGHTS, model)
    return model, data.split.digest, data.valid, data.test
