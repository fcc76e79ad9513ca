from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from sslbench.core import DataSpec
from sslbench.data.arrays import ImageArrays
from sslbench.errors import UserError


def arrays(**changes: Any) -> ImageArrays:
    parts: dict[str, Any] = {
        "x_train": np.zeros((6, 4, 5, 3), dtype=np.uint8),
        "y_train": np.arange(6) % 3,
        "x_test": np.zeros((2, 4, 5, 3), dtype=np.uint8),
        "y_test": np.array([0, 2]),
        "num_classes": 3,
        "name": "mine",
    }
    return ImageArrays(**(parts | changes))


def test_good_arrays_tell_their_spec() -> None:
    assert arrays().spec == DataSpec(channels=3, height=4, width=5, num_classes=3, num_train=6)


def test_classes_have_names_or_numbers() -> None:
    assert arrays().class_names == ("0", "1", "2")
    assert arrays(class_names=["cat", "dog", "cow"]).class_names == ("cat", "dog", "cow")
    with pytest.raises(UserError, match="dataset 'mine': class_names has 2 names for 3 classes"):
        arrays(class_names=("cat", "dog"))


def test_arrays_become_contiguous_and_writable_without_changing() -> None:
    images = np.arange(6 * 4 * 5 * 3, dtype=np.uint8).reshape(6, 4, 5, 3)[..., ::-1]
    images.flags.writeable = False
    held = arrays(x_train=images).x_train
    assert held.flags.c_contiguous
    assert held.flags.writeable
    np.testing.assert_array_equal(held, images)


def test_good_memory_is_not_copied() -> None:
    images = np.zeros((6, 4, 5, 3), dtype=np.uint8)
    assert arrays(x_train=images).x_train is images


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"x_train": np.zeros((6, 4), np.uint8)},
            r"x_train has shape \[6, 4\]; reshape it to \[N, H, W, C\]",
        ),
        ({"x_test": np.zeros((2, 4, 5), np.uint8)}, r"x_test has shape \[2, 4, 5\]; reshape"),
        ({"y_train": np.zeros((6, 1), np.int64)}, r"y_train has shape \[6, 1\]; reshape it to \[N\]"),
        ({"x_train": [[1]]}, "x_train is a list, not a numpy array; convert"),
        (
            {"x_train": np.zeros((6, 4, 5, 3), np.float32)},
            "x_train has dtype float32 instead of uint8; save pixels",
        ),
        ({"y_test": np.array([0.0, 2.0])}, "y_test has dtype float64 instead of int64; .*astype"),
        ({"y_test": np.array([0, 2], np.int32)}, "y_test has dtype int32 instead of int64"),
        ({"y_train": np.arange(5) % 3}, "x_train has 6 images but y_train has 5 labels; give one"),
        ({"y_test": np.array([0])}, "x_test has 2 images but y_test has 1 labels"),
        ({"x_test": np.zeros((2, 5, 5, 3), np.uint8)}, r"\[4, 5, 3\] but x_test of \[5, 5, 3\]; bring both"),
        ({"x_test": np.zeros((2, 4, 5, 1), np.uint8)}, r"\[4, 5, 3\] but x_test of \[4, 5, 1\]"),
        (
            {"x_train": np.zeros((6, 3, 32, 32), np.uint8)},
            r"looks like \[N, C, H, W\]; .*transpose\(0, 2, 3, 1\)",
        ),
        (
            {"y_train": np.array([0, 1, 2, -1, 0, 0])},
            r"y_train holds the label -1; number the classes 0\.\.K-1",
        ),
        ({"y_train": np.array([0, 1, 2, 3, 0, 0])}, r"y_train holds the label 3, but .* 0\.\.2"),
        ({"y_test": np.array([0, 3])}, "y_test holds the label 3, but there are 3 classes"),
        ({"x_train": np.zeros((0, 4, 5, 3), np.uint8), "y_train": np.zeros(0, np.int64)}, "x_train is empty"),
        ({"x_test": np.zeros((0, 4, 5, 3), np.uint8), "y_test": np.zeros(0, np.int64)}, "x_test is empty"),
        ({"x_train": np.zeros((6, 0, 5, 3), np.uint8)}, "x_train is empty"),
        ({"num_classes": 1, "y_train": np.zeros(6, np.int64)}, "1 class; give at least 2 classes"),
        (
            {"y_train": np.array([0, 0, 0, 2, 2, 2])},
            "y_train has no image of 1 of 3 classes, the first is class 1",
        ),
        ({"num_classes": 5}, "no image of 2 of 5 classes, the first is class 3; add images"),
        ({"num_classes": 2**40}, "no image of .* the first is class 3"),
    ],
)
def test_bad_arrays_are_named_with_a_remedy_in_one_line(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        arrays(**changes)
    assert str(caught.value).startswith("dataset 'mine': ")
    assert "\n" not in str(caught.value)


def test_reading_needs_neither_torch_nor_torchvision() -> None:
    code = (
        "import sys; from sslbench.data import sources; sources.digits();"
        "assert not {'torch', 'torchvision'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
