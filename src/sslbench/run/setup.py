"""From settings to data and models: what a run and its later evaluation both build."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from sslbench.algorithms.protocol import AnyAlgorithm, stages_of
from sslbench.algorithms.protocol_checks import check_modules
from sslbench.config.build import build, user_error_context
from sslbench.config.data_file import require_same_content
from sslbench.config.identity import Node
from sslbench.config.schema import Settings
from sslbench.core import DataSpec, Stage
from sslbench.data.arrays import ImageArrays
from sslbench.data.splits import Split, make_split
from sslbench.data.views import DeviceImages, FittedTransform, ImageTransform
from sslbench.data.zca import fit
from sslbench.engine.evaluation import EvaluationSet
from sslbench.errors import UserError
from sslbench.models.noise import GaussianNoise
from sslbench.seeding import stream_seed

_CUBLAS = "CUBLAS_WORKSPACE_CONFIG"


@dataclass(frozen=True)
class Data:
    """The data of one run on its device."""

    spec: DataSpec
    class_names: tuple[str, ...]
    split: Split
    transform: FittedTransform
    train: DeviceImages
    targets: Tensor  # class indices of the training images, int64 [N]
    valid: EvaluationSet
    test: EvaluationSet


@contextmanager
def process_restored() -> Iterator[None]:
    """Undo at the end of the block what `prepare_process` sets in it: the process may be a notebook's.

    What `sslbench.system.memory.keep_freed_memory` sets stays, since glibc has no way back.
    """
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    flushed = not torch.tensor(1e-310, dtype=torch.float64).mul(1).item()  # there is no getter
    cublas = os.environ.get(_CUBLAS)
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    kept = matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(flushed)
        if deterministic != torch.are_deterministic_algorithms_enabled():
            torch.use_deterministic_algorithms(deterministic)
        matmul.allow_tf32, cudnn.allow_tf32, cudnn.benchmark = kept
        if cublas is None:
            os.environ.pop(_CUBLAS, None)


def prepare_process(settings: Settings) -> None:
    """Set the process up for training: threads, and arithmetic that means what `precision` says."""
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    torch.set_flush_denormal(True)
    if settings.deterministic:
        # What cuBLAS needs for it (its manual, "Results reproducibility"); read when it is first used.
        os.environ.setdefault(_CUBLAS, ":4096:8")
    if settings.deterministic != torch.are_deterministic_algorithms_enabled():  # the setting takes 2 s
        torch.use_deterministic_algorithms(settings.deterministic)
    # fp32 is to be fp32: TensorFloat-32 keeps 10 bits of mantissa.
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    # Off: the kernels it selects may differ between processes, and so would an evaluation from the result.
    torch.backends.cudnn.benchmark = False


def load_data(settings: Settings) -> tuple[ImageArrays, Split]:
    """The data set in main memory, and its split.

    Raises:
        UserError: the data is absent or broken, its file has changed, or the settings do not fit it.
    """
    require_same_content(settings.dataset)
    arrays: ImageArrays = build(settings.dataset, "dataset")
    split = make_split(
        arrays.y_train,
        arrays.num_classes,
        settings.num_labels,
        settings.num_valid,
        settings.split_seed,
        settings.labelled_in_unlabelled,
    )
    return arrays, split


def prepare_data(settings: Settings, device: torch.device) -> Data:
    """Load, split and move the data, and fit what whitens them; raises what `load_data` does."""
    images: ImageTransform = build(settings.dataset["images"], "dataset.images")
    arrays, split = load_data(settings)
    whitening = None
    if images.preprocess == "gcn_zca":
        # Fitted on what may be trained on: validation images stay unseen.
        whitening = fit(arrays.x_train[np.union1d(split.labelled, split.unlabelled)], device)
    transform = FittedTransform(images, whitening, device)
    with user_error_context("dataset.images"):
        train, test = transform.store(arrays.x_train, padded=True), transform.store(arrays.x_test)
    targets = torch.from_numpy(arrays.y_train).to(device)
    valid = torch.from_numpy(split.valid).to(device)
    black, white = images.range(arrays.spec.channels)
    return Data(
        replace(arrays.spec, black=black, white=white, num_unlabelled=len(split.unlabelled)),
        arrays.class_names,
        split,
        transform,
        train,
        targets,
        EvaluationSet(train, valid, targets[valid], arrays.num_classes),
        whole_set(test, arrays.y_test, arrays.num_classes, device),
    )


def whole_set(
    images: DeviceImages, targets: NDArray[np.int64], num_classes: int, device: torch.device
) -> EvaluationSet:
    """All of `images` as an evaluation set; `targets` are their class indices, int64 ``[N]``."""
    index = torch.arange(len(images), device=device)
    return EvaluationSet(images, index, torch.from_numpy(targets).to(device), num_classes)


@final
class Networks:
    """The `sslbench.core.ModelFactory` of a run: fresh models, from the global random stream, on the CPU."""

    def __init__(self, node: Node, spec: DataSpec) -> None:
        self._node, self.spec = node, spec

    def __call__(self, num_outputs: int | None = None) -> nn.Module:
        """A model with `num_outputs` outputs; by default, one for each class."""
        model: nn.Module = build(
            self._node,
            "model",
            in_channels=self.spec.channels,
            image_size=(self.spec.height, self.spec.width),
            num_classes=num_outputs or self.spec.num_classes,
        )
        return model


def new_models(settings: Settings, algorithm: AnyAlgorithm, spec: DataSpec) -> dict[str, nn.Module]:
    """The algorithm's modules on the CPU, drawn from the global random stream."""
    with user_error_context("algorithm"):
        built = algorithm.build(Networks(settings.model, spec))
        check_modules(algorithm, built)
    return {name: model.to(memory_format=torch.channels_last) for name, model in built.items()}


def build_models(
    settings: Settings, algorithm: AnyAlgorithm, data: Data, device: torch.device
) -> dict[str, nn.Module]:
    """The algorithm's modules on the device, initialised from the run's ``init`` stream.

    The weights are drawn on the CPU, so that a CPU and a GPU run start from the same ones. Leaves the
    global random stream seeded for training (dropout, perturbations).
    """
    torch.manual_seed(stream_seed(settings.seed, "init"))
    built = new_models(settings, algorithm, data.spec)
    models = {name: model.to(device) for name, model in built.items()}
    for stage in stages_of(algorithm):
        _check_views_differ(settings, stage, models, data.transform.images)
        _check_batch_norm(settings, stage, models)
    torch.manual_seed(stream_seed(settings.seed, "algorithm"))
    return models


def _check_views_differ(
    settings: Settings, stage: Stage, models: dict[str, nn.Module], transform: ImageTransform
) -> None:
    """Refuse two weak views that never differ: the consistency loss would be zero."""
    chance = any(
        (isinstance(m, _DropoutNd) and m.p > 0) or (isinstance(m, GaussianNoise) and m.std > 0)
        for model in models.values()
        for m in model.modules()
    )
    if stage.views.unlabelled.count("weak") > 1 and not transform.is_random and not chance:
        raise UserError(
            f"algorithm={settings.choices['algorithm']} compares two random views, but every augmentation is "
            f"off and the model has no dropout: set dataset.images.noise=0.15, dataset.images.crop=2 or "
            f"model.dropout"
        )


def _check_batch_norm(settings: Settings, stage: Stage, models: dict[str, nn.Module]) -> None:
    """Refuse a single image a batch for batch norm, which has no statistics of one."""
    if any(isinstance(m, _BatchNorm) for model in models.values() for m in model.modules()):
        for name, size in vars(settings.batch).items():
            if getattr(stage.views, name) and size < 2:
                raise UserError(f"batch.{name}={size}: the model's batch norm needs 2 images or more")


def checkpoint_bytes(models: dict[str, nn.Module]) -> int:
    """Disk space that a run's files need at most: three checkpoints with optimizer state, and the weights."""
    weights: int = sum(value.nbytes for model in models.values() for value in model.state_dict().values())
    return 13 * weights + 2**24
