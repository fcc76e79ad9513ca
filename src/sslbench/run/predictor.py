"""The trained model of a run and how images become its inputs, saved and loaded without a data set."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

import sslbench
from sslbench.algorithms.protocol import AnyAlgorithm, stages_of
from sslbench.config import saved
from sslbench.config.build import build, check_nodes
from sslbench.config.checks import check_values
from sslbench.config.schema import Settings
from sslbench.config.trust import require_trusted_targets
from sslbench.core import DataSpec
from sslbench.data.views import FittedTransform, ImageTransform
from sslbench.data.zca import GcnZca
from sslbench.engine.averages import averaged_module
from sslbench.errors import UserError
from sslbench.run.setup import Data, new_models
from sslbench.rundir.parsing import parse, require_schema
from sslbench.rundir.records import CONFIG, MODEL, SCHEMA, WEIGHTS, WHITENING, SavedModel
from sslbench.rundir.weights import load_tensors, load_weights, save_weights
from sslbench.system.atomic_files import write_text_atomically
from sslbench.system.safe_files import read_json

_REMEDY = "if you trust whoever wrote it, add --trust"


@dataclass(frozen=True, eq=False)
class Predictor:
    """A trained model with its inputs and outputs.

    Attributes:
        model: logits ``[N, K]`` from inputs float32 ``[N, C, H, W]``, in evaluation mode, on the device.
        transform: inputs from images uint8 ``[N, H, W, C]``.
        class_names: of the K outputs.
    """

    model: nn.Module
    transform: FittedTransform
    class_names: tuple[str, ...]


def selected_module(algorithm: AnyAlgorithm, averaged: bool = False) -> str:
    """The module whose weights a run saves: the first predictor of the last stage.

    With `averaged`, the module of which the run saves an average.
    """
    last = stages_of(algorithm)[-1]
    return averaged_module(last) if averaged else last.predictors[0]


def save_predictor(directory: Path, algorithm: AnyAlgorithm, data: Data, averaged: bool = False) -> None:
    """Write ``model.json``, and the fitted tensors of the whitening if there are any."""
    images, spec = data.transform.images, data.spec
    if whitening := data.transform.whitening:
        tensors = {name: value.cpu() for name, value in vars(whitening).items()}
        save_weights(directory / WHITENING, tensors)
    content = SavedModel(
        sslbench_version=sslbench.__version__,
        predictor=selected_module(algorithm, averaged),
        channels=spec.channels,
        height=spec.height,
        width=spec.width,
        num_train=spec.num_train,
        class_names=data.class_names,
        mean=images.mean,
        std=images.std,
        preprocess=images.preprocess,
    )
    text = json.dumps({"schema": SCHEMA, **asdict(content)}, indent=2)
    write_text_atomically(directory / MODEL, text + "\n")


def trusted_settings(directory: Path, trust: bool) -> Settings:
    """The configuration of the run in `directory`.

    Raises:
        UserError: there is no run, its configuration is damaged, or, without `trust`, it names classes or
            functions that do not come with sslbench.
    """
    settings = saved.load(directory / CONFIG)
    if not trust:
        require_trusted_targets(settings, directory / CONFIG, _REMEDY)
    check_values(settings)
    check_nodes(settings)
    return settings


def load_predictor(directory: Path, device: torch.device, trust: bool = False) -> Predictor:
    """The model of a finished run from its folder alone; the data set need not exist.

    Args:
        directory: of the run.
        device: where it predicts.
        trust: see `trusted_settings`.

    Raises:
        UserError: a file is absent or damaged, the files do not fit each other, or the configuration names
            what is not trusted. Older runs have no ``model.json``.
    """
    settings = trusted_settings(directory, trust)
    path = directory / MODEL
    found = read_json(path)
    require_schema(found, str(path))
    record = parse(SavedModel, found, str(path))
    try:
        return _predictor(settings, directory, record, device)
    except (ValueError, LookupError, RuntimeError, MemoryError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path} does not fit the run ({reason})") from error


def _predictor(settings: Settings, directory: Path, record: SavedModel, device: torch.device) -> Predictor:
    images = ImageTransform(record.mean, record.std, valid=(), preprocess=record.preprocess)
    size = record.channels, record.height, record.width
    whitening = None
    if images.preprocess == "gcn_zca":
        tensors = load_tensors(directory / WHITENING)
        numbers = math.prod(size)
        mean, matrix = tensors["mean"].double(), tensors["whiten"].double()
        if mean.shape != (numbers,) or matrix.shape != (numbers, numbers):
            raise ValueError(f"{WHITENING} is not for images of {numbers} numbers")
        whitening = GcnZca(mean.to(device), matrix.to(device))
    black, white = images.range(record.channels)
    spec = DataSpec(*size, len(record.class_names), record.num_train, black, white)
    algorithm: AnyAlgorithm = build(settings.algorithm, "algorithm")
    with torch.random.fork_rng(devices=[]):  # the weights drawn are replaced: leave no trace of drawing them
        model = new_models(settings, algorithm, spec)[record.predictor]
    load_weights(directory / WEIGHTS, model)
    return Predictor(model.to(device).eval(), FittedTransform(images, whitening, device), record.class_names)
