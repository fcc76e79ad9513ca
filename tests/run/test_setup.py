from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sslbench.algorithms.protocol import AnyAlgorithm
from sslbench.config.build import build
from sslbench.config.schema import Settings
from sslbench.core import DataSpec
from sslbench.data import zca
from sslbench.errors import UserError
from sslbench.run.evaluate import evaluate_run
from sslbench.run.setup import (
    Networks,
    build_models,
    checkpoint_bytes,
    prepare_data,
    prepare_process,
)
from sslbench.run.train import run
from sslbench.seeding import stream_seed

CPU = torch.device("cpu")
MakeSettings = Callable[..., Settings]


def models_of(settings: Settings) -> dict[str, nn.Module]:
    algorithm: AnyAlgorithm = build(settings.algorithm, "algorithm")
    return build_models(settings, algorithm, prepare_data(settings, CPU), CPU)


def weights_of(settings: Settings) -> dict[str, Tensor]:
    return dict(models_of(settings)["student"].state_dict())


def differ(ones: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> bool:
    assert ones.keys() == others.keys()
    return any(not torch.equal(ones[name], others[name]) for name in ones)


def smooth_images(count: int, seed: int) -> NDArray[np.uint8]:
    random = np.random.default_rng(seed)
    noise = random.normal(size=(count, 8, 8, 3))
    return np.clip(128 + 40 * (noise + np.roll(noise, 1, axis=1)), 0, 255).astype(np.uint8)


def save_npz(path: Path, x_train: NDArray[np.uint8]) -> Path:
    np.savez(
        path,
        x_train=x_train,
        y_train=np.arange(len(x_train)) % 3,
        x_test=smooth_images(20, seed=1),
        y_test=np.arange(20) % 3,
    )
    return path


def npz_overrides(path: Path) -> list[str]:
    return ["dataset=npz", f"dataset.path={path}", "num_labels=9", "num_valid=30"]


def test_data_of_the_digits(settings_of: MakeSettings) -> None:
    settings = settings_of("num_labels=30", "num_valid=100")
    data = prepare_data(settings, CPU)
    assert (data.spec.channels, data.spec.height, data.spec.width, data.spec.num_classes) == (1, 8, 8, 10)
    assert [len(part) for part in (data.split.labelled, data.split.valid, data.split.unlabelled)] == [
        30,
        100,
        1197,
    ]
    assert len(data.train) == len(data.targets) == 1297
    assert torch.equal(data.valid.index, torch.from_numpy(data.split.valid))
    assert torch.equal(data.valid.targets, data.targets[data.valid.index])
    assert data.valid.images is data.train
    assert len(data.test.images) == len(data.test.targets) == 500
    assert torch.equal(data.test.index, torch.arange(500))
    assert data.valid.num_classes == data.test.num_classes == 10


def test_split_belongs_to_its_seed_alone(settings_of: MakeSettings) -> None:
    digests = [
        prepare_data(settings_of(*overrides), CPU).split.digest
        for overrides in (
            ["seed=0"],
            ["seed=1", "split_seed=0", "steps=3"],
            ["split_seed=1"],
            ["labelled_in_unlabelled=false"],
        )
    ]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("num_labels=55", r"num_labels=55 is not divisible by the 10 classes"),
        ("num_valid=2000", r"num_valid=2000 together exceed the 1297"),
        ("dataset.images.flip=true", r"dataset\.images: flip=True is not a valid augmentation"),
        ("dataset.images.crop=8", r"dataset\.images: crop=8 must be smaller than the 8x8 images"),
        ("dataset.images.mean=[0.1,0.2]", r"dataset\.images: mean has 2 numbers"),
        ("dataset.images.std=[0.0]", r"dataset\.images: std=\[0\.0\] must be above 0"),
    ],
)
def test_settings_that_do_not_fit_the_data(settings_of: MakeSettings, override: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        prepare_data(settings_of(override), CPU)


def test_settings_that_do_not_fit_the_model(settings_of: MakeSettings) -> None:
    with pytest.raises(UserError, match=r"^model: dropout=1\.5"):
        models_of(settings_of("model.dropout=1.5"))


def test_images_are_whitened_by_what_may_be_trained_on(settings_of: MakeSettings, tmp_path: Path) -> None:
    x_train = smooth_images(100, seed=0)
    overrides = [*npz_overrides(save_npz(tmp_path / "images.npz", x_train)), "dataset.images.crop=1"]
    settings = settings_of(*overrides, "dataset.images.preprocess=gcn_zca")
    data = prepare_data(settings, CPU)
    train, test = torch.arange(100), torch.arange(20)
    fitted = zca.fit(np.delete(x_train, data.split.valid, axis=0))
    for images, index, source in (
        (data.train, train, x_train),
        (data.test.images, test, smooth_images(20, seed=1)),
    ):
        expected = fitted.apply(source).transpose(0, 3, 1, 2)
        np.testing.assert_array_equal(images.clean(index).numpy(), expected)

    # Not a pixel of a validation image may have a part in how the training images look.
    x_train[data.split.valid] = 255 - x_train[data.split.valid]
    x_train[data.split.valid, 0] = 7
    save_npz(tmp_path / "images.npz", x_train)
    changed = prepare_data(settings_of(*overrides, "dataset.images.preprocess=gcn_zca"), CPU)
    trained_on = torch.from_numpy(data.split.unlabelled)
    assert torch.equal(changed.train.clean(trained_on), data.train.clean(trained_on))
    assert not torch.equal(changed.train.clean(data.valid.index), data.train.clean(data.valid.index))


@pytest.mark.parametrize("among", ["true", "false"])
def test_whitening_sees_the_labelled_images_either_way(
    settings_of: MakeSettings, tmp_path: Path, among: str
) -> None:
    x_train = smooth_images(100, seed=0)
    overrides = npz_overrides(save_npz(tmp_path / "images.npz", x_train))
    settings = settings_of(*overrides, "dataset.images.preprocess=gcn_zca", f"labelled_in_unlabelled={among}")
    data = prepare_data(settings, CPU)
    expected = zca.fit(np.delete(x_train, data.split.valid, axis=0)).apply(x_train)
    np.testing.assert_array_equal(data.train.clean(torch.arange(100)).numpy(), expected.transpose(0, 3, 1, 2))


def test_models_start_equal_for_equal_seeds(settings_of: MakeSettings) -> None:
    torch.manual_seed(1)
    first = weights_of(settings_of("seed=5"))
    torch.manual_seed(2)
    torch.rand(10)
    assert not differ(weights_of(settings_of("seed=5")), first)
    assert differ(weights_of(settings_of("seed=6")), first)
    # Neither the split nor the method may change where a run starts.
    assert not differ(weights_of(settings_of("seed=5", "split_seed=3", "algorithm=supervised")), first)


def test_chance_in_training_belongs_to_the_seed(settings_of: MakeSettings) -> None:
    models_of(settings_of("seed=5"))
    drawn = torch.rand(5)
    assert torch.equal(
        drawn, torch.rand(5, generator=torch.Generator().manual_seed(stream_seed(5, "algorithm")))
    )
    models_of(settings_of("seed=5", "model.hidden=[32,32]"))  # which draws more numbers for its weights
    assert torch.equal(torch.rand(5), drawn)


def test_convolutions_are_channels_last(settings_of: MakeSettings, tmp_path: Path) -> None:
    overrides = npz_overrides(save_npz(tmp_path / "images.npz", smooth_images(100, seed=0)))
    settings = settings_of(*overrides)
    settings.model = {"_target_": "sslbench.models.CNN"}
    weights = [
        module.weight for module in models_of(settings)["student"].modules() if isinstance(module, nn.Conv2d)
    ]
    assert weights
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)


@pytest.mark.parametrize("overrides", [[], ["model.dropout=0.0", "dataset.images.noise=0.0"]])
def test_two_random_views_that_never_differ(settings_of: MakeSettings, overrides: list[str]) -> None:
    settings = settings_of("algorithm=pi_model", "dataset.images.crop=0", *overrides)
    message = (
        r"algorithm=pi_model compares two random views.*set dataset\.images\.noise=0\.15, .*model\.dropout"
    )
    with pytest.raises(UserError, match=message):
        models_of(settings)


@pytest.mark.parametrize(
    "overrides",
    [
        ["algorithm=pi_model", "dataset.images.crop=1"],
        ["algorithm=pi_model", "dataset.images.crop=0", "dataset.images.noise=0.15"],
        ["algorithm=pi_model", "dataset.images.crop=0", "model.dropout=0.1"],
        ["algorithm=pi_model", "dataset.images.crop=0", "model=noisy_mlp", "model.hidden=[8]"],
        ["algorithm=supervised", "dataset.images.crop=0"],
        ["algorithm=vat", "dataset.images.crop=0"],  # its views differ by the perturbation
    ],
)
def test_views_that_differ_or_need_not(settings_of: MakeSettings, overrides: list[str]) -> None:
    assert models_of(settings_of(*overrides))


def test_network_fits_the_data(settings_of: MakeSettings, tmp_path: Path) -> None:
    settings = settings_of(*npz_overrides(save_npz(tmp_path / "images.npz", smooth_images(100, seed=0))))
    data = prepare_data(settings, CPU)
    networks = Networks(settings.model, data.spec)
    images = data.train.clean(torch.arange(4))
    assert networks()(images).shape == (4, 3)
    assert networks(7)(images).shape == (4, 7)
    assert differ(networks().state_dict(), networks().state_dict()), "each is drawn anew"


def test_models_are_built_for_the_data(settings_of: MakeSettings, tmp_path: Path) -> None:
    path = save_npz(tmp_path / "images.npz", smooth_images(100, seed=0))
    scale = ["dataset.images.mean=[0.5,0.5,0.25]", "dataset.images.std=[0.5,0.25,0.25]"]
    settings = settings_of(*npz_overrides(path), *scale)
    data = prepare_data(settings, CPU)
    assert 0 < len(data.split.unlabelled) < 100
    assert data.spec == DataSpec(
        channels=3, height=8, width=8, num_classes=3, num_train=100,
        black=(-1.0, -2.0, -1.0), white=(1.0, 2.0, 3.0), num_unlabelled=len(data.split.unlabelled),
    )  # fmt: skip


def tensors_in(state: Any) -> Iterator[Tensor]:
    if isinstance(state, Tensor):
        yield state
    elif isinstance(state, dict):
        for value in state.values():
            yield from tensors_in(value)


def test_space_is_enough_for_three_checkpoints_with_adam_and_the_weights() -> None:
    model = nn.Sequential(nn.Linear(500, 500), nn.BatchNorm1d(500))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.rand(2, 500)).sum().backward()
    optimizer.step()
    weights = model.state_dict()
    checkpoint = {"models": weights, "optimizer": optimizer.state_dict(), "best_weights": weights}
    needed = sum(tensor.nbytes for state in (*3 * [checkpoint], weights) for tensor in tensors_in(state))
    # Without the allowance for all else, which must not hide that a copy is not counted.
    assert checkpoint_bytes({"student": model}) - 2**24 == pytest.approx(needed, abs=2**15)


def test_threads(settings_of: MakeSettings) -> None:
    before = torch.get_num_threads()
    try:
        prepare_process(settings_of("threads=2"))
        assert torch.get_num_threads() == 2
        prepare_process(settings_of())
        assert torch.get_num_threads() == 2, "null leaves the number as it is"
    finally:
        torch.set_num_threads(before)
    assert not torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cudnn.benchmark


def test_a_run_leaves_the_process_as_it_was(settings_of: MakeSettings) -> None:
    def process() -> tuple[object, ...]:
        denormal = torch.tensor(1e-310, dtype=torch.float64).mul(1).item()
        backends = torch.backends
        tf32 = backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32, backends.cudnn.benchmark
        return denormal, *tf32, torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()

    settings = settings_of("algorithm=supervised", "threads=2", "deterministic=true")
    before = process()
    assert before[0] == 1e-310
    torch.backends.cudnn.benchmark = torch.backends.cudnn.allow_tf32 = True
    try:
        changed = process()
        run(settings)
        assert process() == changed
        evaluate_run(settings.directory(), "cpu")
        assert process() == changed
    finally:
        torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32 = bool(before[3]), bool(before[2])
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
