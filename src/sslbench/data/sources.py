"""Where data sets come from: each function is the `_target_` of one file in `conf/dataset/`.

The official sets take ``root``, the folder of all data sets, and ``download``: whether absent files are
downloaded, through torchvision. They raise `UserError` if files are damaged, or absent and could not be
downloaded.

torchvision is imported only by the functions that need it, as its import takes seconds.
"""

from __future__ import annotations

from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sslbench.data.arrays import ImageArrays
from sslbench.data.official import Findings, check_idx, check_md5, ensure, read_idx, short_reason
from sslbench.errors import UserError
from sslbench.system.safe_files import require_file

if TYPE_CHECKING:
    from torchvision.datasets import MNIST

_NPZ_KEYS = ("x_train", "y_train", "x_test", "y_test")
_DIGITS_TEST = 500


def digits() -> ImageArrays:
    """The 1,797 digits of 8x8 pixels that scikit-learn ships: no file, no download.

    They are the test part of UCI's "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak,
    1998). The test split here is fixed: the last 500 in file order. That order keeps the digits of a
    writer together, so most test writers are unseen in training. Grey levels 0..16 become 0..255.

    Returns:
        1,297 training and 500 test images, ``[8, 8, 1]``, 10 classes.
    """
    table = _digits_table()  # 64 grey levels and the class in a row
    images = np.rint(table[:, :-1].reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
    labels = table[:, -1].astype(np.int64)
    split = len(labels) - _DIGITS_TEST
    return ImageArrays(images[:split], labels[:split], images[split:], labels[split:], 10, "digits")


def _digits_table() -> NDArray[np.float64]:
    """scikit-learn's file, read where it lies: to import the library for it takes longer than a short run."""
    file = distribution("scikit-learn").locate_file("sklearn/datasets/data/digits.csv.gz")
    return np.loadtxt(str(file), delimiter=",")


def mnist(root: str, download: bool = True) -> ImageArrays:
    """MNIST (LeCun et al., 1998), from ``<root>/MNIST/raw``.

    Returns:
        60,000 training and 10,000 test images, ``[28, 28, 1]``, 10 classes.
    """
    from torchvision.datasets import MNIST

    return _mnist("mnist", MNIST, root, download)


def fashion_mnist(root: str, download: bool = True) -> ImageArrays:
    """Fashion-MNIST (Xiao et al., arXiv:1708.07747), from ``<root>/FashionMNIST/raw``.

    Returns:
        60,000 training and 10,000 test images, ``[28, 28, 1]``, 10 classes.
    """
    from torchvision.datasets import FashionMNIST

    return _mnist("fashion_mnist", FashionMNIST, root, download, tuple(FashionMNIST.classes))


def _mnist(
    name: str, dataset: type[MNIST], root: str, download: bool, class_names: tuple[str, ...] = ()
) -> ImageArrays:
    base = Path(root).expanduser()
    folder = base / dataset.__name__ / "raw"
    packed = [(folder / file, md5) for file, md5 in dataset.resources]
    ensure(name, base, lambda: check_idx(packed), lambda: dataset(base, download=True), packed, download)
    # Read here and not by torchvision, which prefers unchecked `processed/*.pt` files of its old versions.
    content = {path.name.split("-idx")[0]: read_idx(path) for path, _ in packed}
    return ImageArrays(
        x_train=content["train-images"][..., None],
        y_train=content["train-labels"].astype(np.int64),
        x_test=content["t10k-images"][..., None],
        y_test=content["t10k-labels"].astype(np.int64),
        num_classes=10,
        name=name,
        class_names=class_names,
    )


def svhn(root: str, extra: bool = False, download: bool = True) -> ImageArrays:
    """Street View House Numbers (Netzer et al., 2011), cropped digits, from ``<root>/SVHN/*_32x32.mat``.

    Args:
        extra: whether the 531,131 easier images of the "extra" part follow the training images.

    Returns:
        73,257 training images (604,388 with ``extra``) and 26,032 test images, ``[32, 32, 3]``, 10 classes.
    """
    from torchvision.datasets import SVHN

    base = Path(root).expanduser()
    folder = base / "SVHN"
    splits = ("train", "extra", "test") if extra else ("train", "test")
    files = [(folder / SVHN.split_list[split][1], SVHN.split_list[split][2]) for split in splits]

    def fetch() -> None:
        for split in splits:
            SVHN(folder, split, download=True)

    ensure("svhn", base, lambda: check_md5(files), fetch, files, download)
    parts = [SVHN(folder, split) for split in splits]  # images [N, C, H, W]
    images = [part.data.transpose(0, 2, 3, 1) for part in parts]
    return ImageArrays(
        x_train=np.concatenate(images[:-1]),
        y_train=np.concatenate([part.labels for part in parts[:-1]]),
        x_test=images[-1],
        y_test=parts[-1].labels,
        num_classes=10,
        name="svhn",
    )


def cifar10(root: str, download: bool = True) -> ImageArrays:
    """CIFAR-10 (Krizhevsky, 2009), from ``<root>/cifar-10-batches-py``.

    Returns:
        50,000 training and 10,000 test images, ``[32, 32, 3]``, 10 classes.
    """
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import download_and_extract_archive

    base = Path(root).expanduser()
    folder = base / CIFAR10.base_folder
    files = [(folder / file, md5) for file, md5 in [*CIFAR10.train_list, *CIFAR10.test_list]]
    files.append((folder / CIFAR10.meta["filename"], CIFAR10.meta["md5"]))
    archive = [(base / CIFAR10.filename, CIFAR10.tgz_md5)]

    def inspect() -> Findings:
        found = check_md5(files)
        if found.missing:  # they are unpacked from the archive, if that is there
            found.damaged.extend(check_md5(archive).damaged)
        return found

    def fetch() -> None:  # CIFAR10(download=True) would not restore batches.meta alone
        download_and_extract_archive(CIFAR10.url, base, filename=CIFAR10.filename, md5=CIFAR10.tgz_md5)

    ensure("cifar10", base, inspect, fetch, archive, download)
    train, test = CIFAR10(base, train=True), CIFAR10(base, train=False)
    return ImageArrays(
        x_train=train.data,
        y_train=np.array(train.targets, dtype=np.int64),
        x_test=test.data,
        y_test=np.array(test.targets, dtype=np.int64),
        num_classes=10,
        name="cifar10",
        class_names=tuple(train.classes),
    )


def npz(path: str) -> ImageArrays:
    """Your own data, from one ``.npz`` file; see `ImageArrays` for what is checked.

    Args:
        path: a file with ``x_train``, ``y_train``, ``x_test``, ``y_test`` as `numpy.savez` writes them:
            images uint8 ``[N, H, W, C]``, or ``[N, H, W]`` when grey; labels of any integer type ``[N]``,
            0..K-1.

    Returns:
        The images, named after the file; the number of classes is the greatest label + 1.

    Raises:
        UserError: the file is missing, damaged or pickled, lacks an array, or an array is not as described.
    """
    file = Path(path).expanduser()
    require_file(file, f"dataset.path={path}")
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            x_train, y_train, x_test, y_test = (archive[key] for key in _NPZ_KEYS)
        y_train, y_test = (y.astype(np.int64) if y.dtype.kind in "iu" else y for y in (y_train, y_test))
        x_train, x_test = (x[..., None] if x.ndim == 3 else x for x in (x_train, x_test))
        labels = [y for y in (y_train, y_test) if y.dtype == np.int64 and y.size]
        num_classes = 1 + max((int(y.max()) for y in labels), default=0)
        return ImageArrays(x_train, y_train, x_test, y_test, num_classes, file.stem)
    except UserError as error:
        raise UserError(f"dataset.path={path}: {error}") from error
    except Exception as error:
        # Any: zipfile, the decompressors and numpy's parser of headers have no error in common. A header may
        # claim a shape that no memory holds, a compression that nobody knows, or a password.
        raise UserError(
            f"dataset.path={path}: cannot be read ({short_reason(error)}); write it with "
            f"np.savez(path, x_train=..., y_train=..., x_test=..., y_test=...) and plain arrays"
        ) from error
