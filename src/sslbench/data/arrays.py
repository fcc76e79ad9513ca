"""A data set in memory, checked once, so that every later layer can rely on its shapes and types."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sslbench.errors import UserError

if TYPE_CHECKING:
    from sslbench.core import DataSpec


@dataclass(frozen=True, eq=False)
class ImageArrays:
    """A whole image classification data set; whatever makes one, `dataset._target_` may name.

    The arrays are checked when the object is made, and held C-contiguous and writable.

    Attributes:
        x_train: training images, uint8 ``[N, H, W, C]``.
        y_train: their class indices, int64 ``[N]``, each in 0..num_classes-1, each class at least once.
        x_test: test images, uint8 ``[M, H, W, C]`` of the same ``H, W, C``.
        y_test: their class indices, int64 ``[M]``.
        num_classes: size of the label set, at least 2.
        name: what results and messages call the data set.
        class_names: of the classes in their order; by default their numbers.

    Raises:
        UserError: an array is not as described above; the message names the array and the remedy.
    """

    x_train: NDArray[np.uint8]
    y_train: NDArray[np.int64]
    x_test: NDArray[np.uint8]
    y_test: NDArray[np.int64]
    num_classes: int
    name: str
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check all arrays; see the class."""
        try:
            for part in ("train", "test"):
                images, labels = getattr(self, f"x_{part}"), getattr(self, f"y_{part}")
                _check_images(f"x_{part}", images)
                _check_labels(f"y_{part}", labels)
                if len(images) != len(labels):
                    raise UserError(
                        f"x_{part} has {len(images)} images but y_{part} has {len(labels)} labels;"
                        " give one label for each image"
                    )
            _check_classes(self.y_train, self.y_test, self.num_classes)
            if (count := len(self.class_names)) not in (0, self.num_classes):
                raise UserError(f"class_names has {count} names for {self.num_classes} classes")
            if self.x_train.shape[1:] != self.x_test.shape[1:]:
                raise UserError(
                    f"x_train holds images of shape {_shape(self.x_train.shape[1:])} but x_test of"
                    f" {_shape(self.x_test.shape[1:])}; bring both to one [H, W, C]"
                )
        except UserError as error:
            raise UserError(f"dataset {self.name!r}: {error}") from None
        # torch.from_numpy refuses negative strides and warns of read-only memory; copies only where needed
        for field in ("x_train", "y_train", "x_test", "y_test"):
            object.__setattr__(self, field, np.require(getattr(self, field), requirements=["C", "W"]))
        numbers = tuple(map(str, range(self.num_classes)))
        object.__setattr__(self, "class_names", tuple(self.class_names) or numbers)

    @property
    def spec(self) -> DataSpec:
        """What a model must know of the data, but for the inputs of black and white pixels."""
        from sslbench.core import DataSpec  # imports torch, which reading a file does not need

        num_train, height, width, channels = self.x_train.shape
        return DataSpec(channels, height, width, self.num_classes, num_train)


def _shape(shape: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, shape))}]"


def _check_array(name: str, array: Any, ndim: int, layout: str, dtype: type[np.generic], remedy: str) -> None:
    if not isinstance(array, np.ndarray):
        raise UserError(f"{name} is a {type(array).__name__}, not a numpy array; convert it with np.asarray")
    if array.ndim != ndim:
        raise UserError(f"{name} has shape {_shape(array.shape)}; reshape it to {layout}")
    if array.dtype != dtype:
        raise UserError(f"{name} has dtype {array.dtype} instead of {dtype.__name__}; {remedy}")
    if array.size == 0:
        raise UserError(f"{name} is empty, its shape is {_shape(array.shape)}; give at least one image")


def _check_images(name: str, images: Any) -> None:
    remedy = "save pixels 0..255 as uint8, e.g. (255 * x).round().astype(np.uint8) where x is in [0, 1]"
    _check_array(name, images, 4, "[N, H, W, C]", np.uint8, remedy)
    # Read as [N, H, W, C], torch's [N, C, H, W] would train on nonsense without any other sign.
    if images.shape[1] in (1, 3, 4) and images.shape[3] > 4:
        raise UserError(
            f"{name} has shape {_shape(images.shape)}, which looks like [N, C, H, W];"
            " bring it to [N, H, W, C] with x.transpose(0, 2, 3, 1)"
        )


def _check_labels(name: str, labels: Any) -> None:
    remedy = "save class indices and convert them with y.astype(np.int64)"
    if isinstance(labels, np.ndarray) and labels.dtype.kind not in "iufb":  # names of classes, say
        remedy = "number the classes with names, y = np.unique(y, return_inverse=True)"
    _check_array(name, labels, 1, "[N]", np.int64, remedy)
    if labels.min() < 0:
        raise UserError(f"{name} holds the label {labels.min()}; number the classes 0..K-1")


def _check_classes(y_train: NDArray[np.int64], y_test: NDArray[np.int64], num_classes: int) -> None:
    if num_classes < 2:
        raise UserError(f"y_train and y_test have {num_classes} class; give at least 2 classes")
    for name, labels in (("y_train", y_train), ("y_test", y_test)):
        if labels.max() >= num_classes:
            raise UserError(
                f"{name} holds the label {labels.max()}, but there are {num_classes} classes;"
                f" number the classes 0..{num_classes - 1}"
            )
    # not np.bincount: a stray label such as 2**40 would ask for that much memory
    present = np.unique(y_train)
    if len(present) < num_classes:
        first = next(number for number, label in enumerate([*present, -1]) if number != label)
        raise UserError(
            f"y_train has no image of {num_classes - len(present)} of {num_classes} classes, the first is"
            f" class {first}; add images of it or number the classes without gaps"
        )
