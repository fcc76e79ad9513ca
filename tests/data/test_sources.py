from __future__ import annotations

import gzip
import hashlib
import inspect
import io
import pickle
import shutil
import socket
import struct
import tarfile
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from numpy.typing import NDArray
from omegaconf import OmegaConf
from sklearn.datasets import load_digits
from torchvision import datasets

from sslbench.data import sources
from sslbench.data.arrays import ImageArrays
from sslbench.errors import UserError

CONF = Path(__file__).parents[2] / "conf" / "dataset"


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """No test reaches the network; gives the list of addresses that were asked for."""
    asked: list[str] = []

    def urlopen(request: urllib.request.Request, *_: Any, **__: Any) -> None:
        asked.append(request.full_url)
        raise urllib.error.URLError(socket.gaierror(-2, "Name or service not known"))

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    return asked


def fails(call: Callable[[], object], *parts: str) -> None:
    """The call raises a one-line UserError that has all the parts."""
    with pytest.raises(UserError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def cut(path: Path, keep: float = 0.5) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])


def pictures(count: int, shape: tuple[int, ...], seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    images = np.random.default_rng(seed).integers(0, 256, size=(count, *shape), dtype=np.uint8)
    return images, np.arange(count) % 10


# --- digits ---------------------------------------------------------------------------------------------


def test_digits() -> None:
    data = sources.digits()
    assert data.x_train.shape == (1297, 8, 8, 1)
    assert data.x_test.shape == (500, 8, 8, 1)
    assert (data.x_train.min(), data.x_train.max(), data.num_classes) == (0, 255, 10)
    assert np.unique(data.x_train).size == 17
    # the first image is a 0: its first row in sixteenths is 0 0 5 13 9 1 0 0
    np.testing.assert_array_equal(data.x_train[0, 0, :, 0], [0, 0, 80, 207, 143, 16, 0, 0])
    assert data.y_train[:5].tolist() == [0, 1, 2, 3, 4]
    assert data.y_test[-3:].tolist() == [8, 9, 8]


def test_digits_are_those_that_the_library_loads() -> None:
    digits = load_digits()
    np.testing.assert_array_equal(sources._digits_table(), np.column_stack([digits.data, digits.target]))


# --- npz ------------------------------------------------------------------------------------------------


def good_npz() -> dict[str, NDArray[Any]]:
    x_train, y_train = pictures(40, (6, 5, 3), seed=0)
    x_test, y_test = pictures(20, (6, 5, 3), seed=1)
    return {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}


def test_npz(tmp_path: Path) -> None:
    parts = good_npz()
    np.savez(tmp_path / "cells.npz", **parts)  # type: ignore[arg-type]
    data = sources.npz(str(tmp_path / "cells.npz"))
    assert (data.name, data.num_classes) == ("cells", 10)
    for key, value in parts.items():
        np.testing.assert_array_equal(getattr(data, key), value)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint64, ">i4"])
def test_npz_takes_grey_images_and_labels_of_any_integer_type(tmp_path: Path, dtype: Any) -> None:
    parts = good_npz()
    parts |= {key: parts[key][..., 0] for key in ("x_train", "x_test")}
    parts |= {key: parts[key].astype(dtype) for key in ("y_train", "y_test")}
    np.savez_compressed(tmp_path / "grey.npz", **parts)  # type: ignore[arg-type]
    data = sources.npz(str(tmp_path / "grey.npz"))
    assert data.x_train.shape == (40, 6, 5, 1)
    assert data.y_train.dtype == data.y_test.dtype == np.int64


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"y_test": None}, "y_test is not a file in the archive"),
        ({"x_train": np.array([{}], dtype=object)}, "Object arrays cannot be loaded"),
        ({"x_train": np.zeros((40, 6, 5, 3))}, "x_train has dtype float64 instead of uint8"),
        ({"y_train": np.arange(40) % 10 / 1.0}, "y_train has dtype float64 instead of int64"),
        ({"y_test": np.array(["a"] * 20)}, "y_test has dtype <U1 instead of int64"),
        ({"y_test": np.arange(20)}, "no image of 10 of 20 classes, the first is class 10"),
        ({"y_test": np.zeros(0, np.int64), "x_test": np.zeros((0, 6, 5, 3), np.uint8)}, "x_test is empty"),
        ({"x_test": np.zeros((20, 6, 5), np.uint8)}, "[6, 5, 3] but x_test of [6, 5, 1]"),
        ({"y_train": np.zeros(40, int), "y_test": np.zeros(20, int)}, "give at least 2 classes"),
    ],
)
def test_npz_with_a_wrong_array(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    path = tmp_path / "cells.npz"
    parts = {key: value for key, value in (good_npz() | changes).items() if value is not None}
    np.savez(path, **parts)
    fails(lambda: sources.npz(str(path)), f"dataset.path={path}: ", said)


@pytest.mark.parametrize("keep", [0, 0.01, 0.3, 0.6, 0.9, 0.999])
def test_npz_truncated(tmp_path: Path, keep: float) -> None:
    path = tmp_path / "cells.npz"
    np.savez(path, **good_npz())  # type: ignore[arg-type]
    cut(path, keep)
    fails(lambda: sources.npz(str(path)), f"dataset.path={path}", "write it with np.savez")


@pytest.mark.parametrize("compress", [False, True])
def test_npz_with_flipped_bits_is_an_error_or_unharmed(tmp_path: Path, compress: bool) -> None:
    path = tmp_path / "cells.npz"
    parts = good_npz()
    (np.savez_compressed if compress else np.savez)(path, **parts)
    content = path.read_bytes()
    directory = content.rindex(b"PK\1\2")  # every byte near the end, a sample of the others
    for place in [*range(0, directory - 300, 97), *range(directory - 300, len(content))]:
        damaged = bytearray(content)
        damaged[place] ^= 1 + 8
        path.write_bytes(damaged)
        try:
            data = sources.npz(str(path))
        except UserError as error:
            assert "\n" not in str(error)  # noqa: PT017 - either outcome is right
        else:
            for key, value in parts.items():
                np.testing.assert_array_equal(getattr(data, key), value)


def test_npz_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "file"
    fails(lambda: sources.npz(str(path)), f"cannot read dataset.path={path}: No such file")
    fails(lambda: sources.npz(str(tmp_path)), "is no ordinary file")
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    fails(lambda: sources.npz(str(path)), f"dataset.path={path}: cannot be read (", "write it with np.savez")
    path.write_bytes(pickle.dumps({"x_train": [0]}))
    fails(lambda: sources.npz(str(path)), "This file contains pickled")


@pytest.mark.real_data
def test_npz_with_real_images(real_data_root: Path) -> None:
    path = real_data_root / "svhn_1083.npz"
    if not path.is_file():
        pytest.skip(f"no {path.name} in SSLBENCH_DATA")
    data = sources.npz(str(path))
    assert (data.x_train.shape, data.x_test.shape, data.num_classes) == (
        (796, 32, 32, 3),
        (287, 32, 32, 3),
        10,
    )


# --- MNIST ----------------------------------------------------------------------------------------------


def idx(array: NDArray[np.uint8]) -> bytes:
    return struct.pack(f">I{array.ndim}I", 0x0800 | array.ndim, *array.shape) + array.tobytes()


class FakeMnist:
    """A small MNIST in the official format."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, dataset: type = datasets.MNIST) -> None:
        self.root = root
        self.raw = root / dataset.__name__ / "raw"
        self.raw.mkdir(parents=True)
        self.train, self.test = pictures(30, (7, 6), seed=0), pictures(20, (7, 6), seed=1)
        resources = []
        for part, (images, labels) in (("train", self.train), ("t10k", self.test)):
            for kind, array in (("images-idx3", images), ("labels-idx1", labels.astype(np.uint8))):
                raw = self.raw / f"{part}-{kind}-ubyte"
                raw.write_bytes(idx(array))
                raw.with_suffix(".gz").write_bytes(gzip.compress(raw.read_bytes()))
                resources.append((f"{raw.name}.gz", md5(raw.with_suffix(".gz"))))
        monkeypatch.setattr(dataset, "resources", resources)

    def load(self, download: bool = True) -> ImageArrays:
        return sources.mnist(str(self.root), download=download)

    def check(self, data: ImageArrays) -> None:
        np.testing.assert_array_equal(data.x_train[..., 0], self.train[0])
        np.testing.assert_array_equal(data.y_train, self.train[1])
        np.testing.assert_array_equal(data.x_test[..., 0], self.test[0])
        np.testing.assert_array_equal(data.y_test, self.test[1])


@pytest.fixture
def fake_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeMnist:
    return FakeMnist(tmp_path, monkeypatch)


@pytest.mark.parametrize("gone", ["", ".gz", "-ubyte"], ids=["nothing", "packed", "unpacked"])
@pytest.mark.parametrize("download", [True, False])
def test_mnist_present_needs_no_network_and_writes_nothing(
    fake_mnist: FakeMnist, offline: list[str], gone: str, download: bool
) -> None:
    for path in fake_mnist.raw.iterdir():
        if gone and path.name.endswith(gone):
            path.unlink()
    before = sorted(fake_mnist.root.rglob("*"))
    data = fake_mnist.load(download)
    fake_mnist.check(data)
    assert (data.name, data.num_classes, data.spec.channels) == ("mnist", 10, 1)
    assert offline == []
    assert sorted(fake_mnist.root.rglob("*")) == before


def test_fashion_mnist_has_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeMnist(tmp_path, monkeypatch, datasets.FashionMNIST)
    data = sources.fashion_mnist(str(tmp_path))
    fake.check(data)
    assert data.name == "fashion_mnist"


def test_mnist_ignores_unchecked_files_of_old_torchvision(fake_mnist: FakeMnist) -> None:
    processed = fake_mnist.root / "MNIST" / "processed"
    processed.mkdir()
    for name in ("training.pt", "test.pt"):
        (processed / name).write_bytes(b"damaged")
    fake_mnist.check(fake_mnist.load())


def test_mnist_packed_file_truncated(fake_mnist: FakeMnist, offline: list[str]) -> None:
    path = fake_mnist.raw / "train-images-idx3-ubyte.gz"
    cut(path)
    size = path.stat().st_size
    fails(fake_mnist.load, f"{path} is truncated or corrupted (checksum mismatch); delete it")
    with pytest.raises(UserError) as caught:
        fake_mnist.load(download=False)
    assert str(path.with_suffix("")) + " " not in str(caught.value)  # the unpacked one is not blamed
    assert path.stat().st_size == size
    assert offline == []


@pytest.mark.parametrize("packed_too", [True, False])
@pytest.mark.parametrize("keep", [0, 0.1, 0.5, 0.999])
@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
def test_mnist_unpacked_file_truncated(
    fake_mnist: FakeMnist, packed_too: bool, keep: float, name: str
) -> None:
    path = fake_mnist.raw / name
    cut(path, keep)
    if not packed_too:
        path.with_suffix(".gz").unlink()
    fails(fake_mnist.load, f"{path} is truncated or corrupted", "delete it")


def test_mnist_unpacked_file_differs_from_packed(fake_mnist: FakeMnist) -> None:
    path = fake_mnist.raw / "train-labels-idx1-ubyte"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    fails(fake_mnist.load, f"{path} is truncated or corrupted (it differs from {path.name}.gz); delete it")


def test_mnist_absent_and_no_network(tmp_path: Path) -> None:
    root = tmp_path / "data"
    fails(
        lambda: sources.mnist(str(root)),
        "no train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz",
        f"in {root / 'MNIST' / 'raw'} (the download failed: Name or service not known)",
        "put them there, or set data_root=... (or SSLBENCH_DATA) to the folder that holds MNIST/raw",
    )


@pytest.mark.parametrize(
    ("load", "said"),
    [
        (sources.mnist, "no train-images-idx3-ubyte.gz"),
        (sources.fashion_mnist, "FashionMNIST/raw (dataset.download=false)"),
        (sources.svhn, "no train_32x32.mat, test_32x32.mat in"),
        (sources.cifar10, "no data_batch_1, data_batch_2"),
    ],
)
def test_absent_and_download_forbidden(
    tmp_path: Path, offline: list[str], load: Callable[..., ImageArrays], said: str
) -> None:
    root = tmp_path / "data"
    fails(
        lambda: load(str(root), download=False), said, "(dataset.download=false); set dataset.download=true"
    )
    assert offline == []
    assert not root.exists()


@pytest.mark.parametrize("load", [sources.mnist, sources.fashion_mnist, sources.svhn, sources.cifar10])
def test_root_that_cannot_be_written(tmp_path: Path, load: Callable[[str], ImageArrays]) -> None:
    (tmp_path / "file").touch()
    fails(
        lambda: load(str(tmp_path / "file" / "data")),
        "the download failed: Not a directory",
        "set data_root=",
    )


def test_root_that_cannot_be_read(fake_mnist: FakeMnist, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_bytes(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    fails(fake_mnist.load, "Permission denied", f"make data_root={fake_mnist.root} readable")


class Response(io.BytesIO):
    """What `urlopen` gives for a file; `taken` is called when its content is read."""

    def __init__(self, path: Path, taken: Callable[[str], None]) -> None:
        super().__init__(path.read_bytes())
        self.url, self.length = None, path.stat().st_size
        self._taken = lambda: taken(path.name)

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell() == 0:
            self._taken()
        return super().read(size)


def serve(folder: Path, monkeypatch: pytest.MonkeyPatch, taken: Callable[[str], None]) -> None:
    monkeypatch.setattr(
        urllib.request,
        "urlopen",
        lambda request: Response(folder / Path(request.full_url).name, taken),
    )


def test_missing_files_are_downloaded_once_by_concurrent_runs(
    fake_mnist: FakeMnist, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[str] = []

    def slowly(name: str) -> None:
        taken.append(name)
        time.sleep(0.05)  # the other runs look while the file is half there

    serve(fake_mnist.raw, monkeypatch, slowly)
    root = tmp_path / "empty"
    results: list[ImageArrays] = []
    runs = [threading.Thread(target=lambda: results.append(sources.mnist(str(root)))) for _ in range(3)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert len(results) == 3
    fake_mnist.check(results[0])
    assert sorted(taken) == sorted(name for name, _ in datasets.MNIST.resources)


def test_an_interrupted_download_leaves_no_half_file(
    fake_mnist: FakeMnist, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(name: str) -> None:
        if "labels" in name:
            raise KeyboardInterrupt

    serve(fake_mnist.raw, monkeypatch, interrupt)
    with pytest.raises(KeyboardInterrupt):
        sources.mnist(str(tmp_path / "empty"))
    left = [path.name for path in (tmp_path / "empty" / "MNIST" / "raw").iterdir()]
    assert sorted(left) == ["train-images-idx3-ubyte", "train-images-idx3-ubyte.gz"]
    assert socket.getdefaulttimeout() is None


def test_a_download_with_other_content_is_refused_and_removed(
    fake_mnist: FakeMnist, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "mirror"
    shutil.copytree(fake_mnist.raw, other)
    cut(other / "train-images-idx3-ubyte.gz")
    serve(other, monkeypatch, lambda _: None)
    root = tmp_path / "empty"
    fails(lambda: sources.mnist(str(root)), "(the download failed: File not found or corrupted.)")
    assert list((root / "MNIST" / "raw").iterdir()) == []


@pytest.mark.real_data
@pytest.mark.parametrize("load", [sources.mnist, sources.fashion_mnist])
def test_real_mnist(real_data_root: Path, offline: list[str], load: Callable[..., ImageArrays]) -> None:
    if load is sources.fashion_mnist and not (real_data_root / "FashionMNIST" / "raw").is_dir():
        pytest.skip("no FashionMNIST/raw in SSLBENCH_DATA")
    data = load(str(real_data_root))
    assert (data.x_train.shape, data.x_test.shape) == ((60000, 28, 28, 1), (10000, 28, 28, 1))
    reader = datasets.MNIST if load is sources.mnist else datasets.FashionMNIST
    reference = reader(real_data_root, train=False)
    np.testing.assert_array_equal(data.x_test[..., 0], reference.data.numpy())
    np.testing.assert_array_equal(data.y_test, reference.targets.numpy())
    assert offline == []


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["t10k-images-idx3-ubyte.gz", "t10k-images-idx3-ubyte"])
def test_real_mnist_truncated(real_data_root: Path, tmp_path: Path, name: str) -> None:
    raw = tmp_path / "MNIST" / "raw"
    shutil.copytree(real_data_root / "MNIST" / "raw", raw)
    cut(raw / name, 0.9)
    fails(lambda: sources.mnist(str(tmp_path)), f"{raw / name} is truncated or corrupted")


# --- SVHN -----------------------------------------------------------------------------------------------


@pytest.fixture
def fake_svhn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, NDArray[np.uint8]]:
    """Small files in the official format under tmp_path/SVHN; gives their images ``[N, 32, 32, 3]``."""
    folder = tmp_path / "SVHN"
    folder.mkdir()
    parts, split_list = {}, {}
    for seed, split in enumerate(("train", "test", "extra")):
        images, labels = pictures(20, (32, 32, 3), seed)
        path = folder / f"{split}_32x32.mat"
        labels = np.where(labels == 0, 10, labels)[:, None].astype(np.uint8)  # the digit 0 is class 10 there
        scipy.io.savemat(path, {"X": images.transpose(1, 2, 3, 0), "y": labels})
        parts[split] = images
        split_list[split] = [f"http://nowhere.invalid/{path.name}", path.name, md5(path)]
    monkeypatch.setattr(datasets.SVHN, "split_list", split_list)
    return parts


def test_svhn(tmp_path: Path, fake_svhn: dict[str, NDArray[np.uint8]], offline: list[str]) -> None:
    (tmp_path / "SVHN" / "extra_32x32.mat").unlink()
    data = sources.svhn(str(tmp_path))
    np.testing.assert_array_equal(data.x_train, fake_svhn["train"])
    np.testing.assert_array_equal(data.x_test, fake_svhn["test"])
    np.testing.assert_array_equal(data.y_train, np.arange(20) % 10)
    assert data.x_test.flags.c_contiguous
    assert data.name == "svhn"
    assert offline == []


def test_svhn_extra_follows_train(tmp_path: Path, fake_svhn: dict[str, NDArray[np.uint8]]) -> None:
    data = sources.svhn(str(tmp_path), extra=True)
    np.testing.assert_array_equal(data.x_train, np.concatenate([fake_svhn["train"], fake_svhn["extra"]]))
    assert len(data.y_train) == 40


@pytest.mark.usefixtures("fake_svhn")
def test_svhn_damaged_or_absent(tmp_path: Path, offline: list[str]) -> None:
    path = tmp_path / "SVHN" / "test_32x32.mat"
    cut(path)
    fails(
        lambda: sources.svhn(str(tmp_path)),
        f"{path} is truncated or corrupted (checksum mismatch); delete it",
    )
    assert offline == []
    path.unlink()
    fails(
        lambda: sources.svhn(str(tmp_path)),
        f"no test_32x32.mat in {path.parent} (the download failed: Name or",
    )
    assert offline != []


# --- CIFAR-10 -------------------------------------------------------------------------------------------


@pytest.fixture
def fake_cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NDArray[np.uint8]:
    """Small files in the official format under tmp_path; gives all images ``[60, 32, 32, 3]``, test last."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    images, labels = pictures(60, (32, 32, 3), seed=0)
    names = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    for name, x, y in zip(names, np.split(images, 6), np.split(labels, 6), strict=True):
        entry = {"data": x.transpose(0, 3, 1, 2).reshape(10, 3072), "labels": y.tolist()}
        (folder / name).write_bytes(pickle.dumps(entry))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": [str(i) for i in range(10)]}))
    listed = [[name, md5(folder / name)] for name in names]
    monkeypatch.setattr(datasets.CIFAR10, "train_list", listed[:-1])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", listed[-1:])
    meta = {"filename": "batches.meta", "key": "label_names", "md5": md5(folder / "batches.meta")}
    monkeypatch.setattr(datasets.CIFAR10, "meta", meta)
    return images


def check_cifar(data: ImageArrays, images: NDArray[np.uint8]) -> None:
    np.testing.assert_array_equal(np.concatenate([data.x_train, data.x_test]), images)
    np.testing.assert_array_equal(data.y_train, np.arange(50) % 10)
    assert len(data.y_test) == 10


def test_cifar10(tmp_path: Path, fake_cifar: NDArray[np.uint8], offline: list[str]) -> None:
    data = sources.cifar10(str(tmp_path))
    check_cifar(data, fake_cifar)
    assert data.x_train.flags.c_contiguous
    assert data.name == "cifar10"
    assert offline == []


# torchvision unpacks without naming a filter, of which Python 3.12 and 3.13 warn
@pytest.mark.filterwarnings("ignore:Python 3.14 will, by default, filter extracted tar:DeprecationWarning")
def test_cifar10_archive_is_unpacked_without_network(
    tmp_path: Path, fake_cifar: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch, offline: list[str]
) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        tar.add(tmp_path / "cifar-10-batches-py", "cifar-10-batches-py")
    archive = tmp_path / "cifar-10-python.tar.gz"
    archive.write_bytes(packed.getvalue())
    monkeypatch.setattr(datasets.CIFAR10, "tgz_md5", md5(archive))
    shutil.rmtree(tmp_path / "cifar-10-batches-py")
    check_cifar(sources.cifar10(str(tmp_path)), fake_cifar)
    assert offline == []

    shutil.rmtree(tmp_path / "cifar-10-batches-py")
    cut(archive)
    fails(lambda: sources.cifar10(str(tmp_path)), f"{archive} is truncated or corrupted", "delete it")
    assert archive.is_file()


@pytest.mark.usefixtures("fake_cifar")
@pytest.mark.parametrize("name", ["data_batch_3", "test_batch", "batches.meta"])
def test_cifar10_damaged_or_absent(tmp_path: Path, name: str) -> None:
    path = tmp_path / "cifar-10-batches-py" / name
    cut(path)
    fails(lambda: sources.cifar10(str(tmp_path)), f"{path} is truncated or corrupted (checksum mismatch)")
    path.unlink()
    fails(
        lambda: sources.cifar10(str(tmp_path)),
        f"no {name} in {path.parent} (the download failed: Name or service not known); put them there",
        "the folder that holds cifar-10-batches-py",
    )


# --- configuration --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.stem)
def test_configuration_fits_the_function(path: Path) -> None:
    config = OmegaConf.to_container(OmegaConf.load(path))
    assert isinstance(config, dict)
    target = config.pop("_target_")
    assert target == f"sslbench.data.sources.{path.stem}"
    images, typical = config.pop("images"), config.pop("typical")
    config.pop("facts", None)
    config.pop("name", None)
    parameters = inspect.signature(getattr(sources, path.stem)).parameters
    assert config.keys() == parameters.keys()
    for name, parameter in parameters.items():
        if parameter.default is not inspect.Parameter.empty:
            assert config[name] == parameter.default
    assert images["_target_"] == "sslbench.data.views.ImageTransform"
    assert len(images["mean"]) == len(images["std"])
    assert typical.keys() == {"num_labels", "num_valid", "perturbation_radius"}


def test_facts_of_digits_are_true() -> None:
    facts: Any = OmegaConf.to_container(OmegaConf.load(CONF / "digits.yaml").facts)
    arrays = sources.digits()
    assert facts == {"num_classes": arrays.num_classes, "num_train": len(arrays.y_train)}


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_facts_of_official_sets_are_true(name: str, real_data_root: Path) -> None:
    facts: Any = OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml").facts)
    arrays = getattr(sources, name)(str(real_data_root), download=False)
    assert facts == {"num_classes": arrays.num_classes, "num_train": len(arrays.y_train)}
