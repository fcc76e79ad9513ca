"""From settings to data and models: what a run and its later evaluation build alike."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from sslbench.algorithms.protocol import AnyAlgorithm, stages_of
from sslbench.config.build import build, user_error_context
from sslbench.config.data_file import require_same_content
from sslbench.config.schema import Settings
from sslbench.core import ImageSpec, Stage
from sslbench.data.arrays import ImageArrays
from sslbench.data.splits import Split, make_split
from sslbench.data.views import DeviceImages, ImageTransform
from sslbench.data.zca import fit
from sslbench.engine.evaluation import EvaluationSet
from sslbench.errors import UserError
from sslbench.models.noise import GaussianNoise
from sslbench.seeding import stream_seed


@dataclass(frozen=True)
class Data:
    """The data of one run on its device.

    Attributes:
        spec: channels, size and classes.
        split: positions in the training set.
        transform: how images become inputs.
        train: the training images.
        targets: class indices of the training images, int64 ``[N]``.
        valid: the validation set.
        test: the test set.
    """

    spec: ImageSpec
    split: Split
    transform: ImageTransform
    train: DeviceImages
    targets: Tensor
    valid: EvaluationSet
    test: EvaluationSet


def prepare_process(settings: Settings) -> None:
    """Set the process up for training: threads, and arithmetic that means what `precision` says."""
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    torch.set_flush_denormal(True)
    if settings.deterministic:
        # What cuBLAS needs for it (its manual, "Results reproducibility"); read when it is first used.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if settings.deterministic != torch.are_deterministic_algorithms_enabled():  # the setting takes 2 s
        torch.use_deterministic_algorithms(settings.deterministic)
    # fp32 is to be fp32: TensorFloat-32 keeps 10 bits of mantissa.
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    # Off: the kernels it picks may differ between processes, and so would an evaluation from the result.
    torch.backends.cudnn.benchmark = False


def prepare_data(settings: Settings, device: torch.device) -> Data:
    """Load, split and move the data.

    Raises:
        UserError: the data is absent or broken, its file has changed, or the settings do not fit it.
    """
    require_same_content(settings.dataset)
    transform: ImageTransform = build(settings.dataset["images"], "dataset.images")
    arrays: ImageArrays = build(settings.dataset, "dataset")
    spec = arrays.spec
    split = make_split(
        arrays.y_train,
        spec.num_classes,
        settings.num_labels,
        settings.num_valid,
        settings.split_seed,
        settings.labelled_in_unlabelled,
    )
    x_train: NDArray[Any] = arrays.x_train
    x_test: NDArray[Any] = arrays.x_test
    if transform.preprocess == "gcn_zca":
        # Fitted on what may be trained on: validation images stay unseen.
        whitening = fit(x_train[np.union1d(split.labelled, split.unlabelled)], device)
        x_train, x_test = whitening.apply(arrays.x_train), whitening.apply(arrays.x_test)
    with user_error_context("dataset.images"):
        train = DeviceImages(x_train, transform, device)
        test = DeviceImages(x_test, transform, device, padded=False)
    targets = torch.from_numpy(arrays.y_train).to(device)
    valid_index = torch.from_numpy(split.valid).to(device)
    test_index = torch.arange(len(x_test), device=device)
    return Data(
        spec,
        split,
        transform,
        train,
        targets,
        EvaluationSet(train, valid_index, targets[valid_index], spec.num_classes),
        EvaluationSet(test, test_index, torch.from_numpy(arrays.y_test).to(device), spec.num_classes),
    )


@final
class Networks:
    """The `sslbench.core.ModelFactory` of a run: fresh networks, from the global random stream, on the CPU.

    Args:
        settings: of the run.
        data: on which the networks are to work.
    """

    def __init__(self, settings: Settings, data: Data) -> None:
        self._node = settings.model
        self.spec, self.num_train = data.spec, len(data.train)
        self.black, self.white = data.transform.range(data.spec.channels)

    def __call__(self, num_outputs: int | None = None) -> nn.Module:
        """A network with `num_outputs` outputs; by default, one for each class.

        Raises:
            UserError: the settings of the model do not fit the data.
        """
        model: nn.Module = build(
            self._node,
            "model",
            in_channels=self.spec.channels,
            image_size=(self.spec.height, self.spec.width),
            num_classes=num_outputs or self.spec.num_classes,
        )
        return model


def build_models(
    settings: Settings, algorithm: AnyAlgorithm, data: Data, device: torch.device
) -> dict[str, nn.Module]:
    """The algorithm's modules on the device, initialised from the run's ``init`` stream.

    The weights are drawn on the CPU, so that a CPU and a GPU run start from the same ones. Leaves the
    global random stream seeded for training (dropout, perturbations).
    """
    torch.manual_seed(stream_seed(settings.seed, "init"))
    with user_error_context("algorithm"):
        built = algorithm.build(Networks(settings, data))
    models = {name: model.to(memory_format=torch.channels_last).to(device) for name, model in built.items()}
    for stage in stages_of(algorithm):
        _check_views_differ(settings, stage, models, data.transform)
        _check_batch_norm(settings, stage, models)
    torch.manual_seed(stream_seed(settings.seed, "algorithm"))
    return models


def _check_views_differ(
    settings: Settings, stage: Stage, models: dict[str, nn.Module], transform: ImageTransform
) -> None:
    """Two weak views that never differ would make the consistency loss zero: a run without a point."""
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
    """Batch norm has no statistics of a single image."""
    sizes = {}
    if stage.views.labelled:
        sizes["labelled"] = settings.batch.labelled
    if stage.views.unlabelled:
        sizes["unlabelled"] = settings.batch.unlabelled
    if any(isinstance(m, _BatchNorm) for model in models.values() for m in model.modules()):
        for name, size in sizes.items():
            if size < 2:
                raise UserError(f"batch.{name}={size}: the model's batch norm needs 2 images or more")


def checkpoint_bytes(models: dict[str, nn.Module]) -> int:
    """Disk space that a run's files need at most: three checkpoints with optimizer state, and the weights."""
    weights: int = sum(
        value.numel() * value.element_size()
        for model in models.values()
        for value in model.state_dict().values()
    )
    return 13 * weights + 2**24
