from __future__ import annotations

import numpy as np
import torch

from sslbench.core import Stage, Views
from sslbench.data.splits import Split
from sslbench.data.strong import RandomOperations
from sslbench.data.views import DeviceImages, ImageTransform
from sslbench.run.view_sheet import view_sheet

CPU = torch.device("cpu")


def test_a_column_for_each_image_and_rows_for_each_view() -> None:
    chance = np.random.default_rng(0)
    images = chance.integers(1, 255, (30, 8, 8, 3), dtype=np.uint8)
    transform = ImageTransform(
        [0.5], [0.5], ["crop"], crop=1, operations={"rotate": [-30, 30], "cutout": [0, 0.5]}
    )
    stored = DeviceImages(images, transform, CPU)
    split = Split(np.arange(5), np.arange(5, 15), np.arange(12, 30))
    strong = RandomOperations("paper", 2, 1.0, 0.5)
    stages = (
        Stage(Views(("weak",), ("weak", strong)), ("student",), ("student",)),
        Stage(Views((), ("clean", "weak", strong)), ("student",), ("student",)),
    )
    sheet = view_sheet(stored, split, stages, seed=3)
    assert sheet.dtype == np.uint8
    names, shown = sheet[:, : -10 * 64], sheet[:, -10 * 64 :]
    rows = shown.reshape(7, 64, 10, 64, 3)[:, ::8, :, ::8].transpose(0, 2, 1, 3, 4)  # clean, 3 weak, 3 strong
    assert shown.shape == (7 * 64, 10 * 64, 3)
    np.testing.assert_array_equal(rows[0], images[12:22])
    views = [row.tobytes() for row in rows]
    assert len(set(views)) == 7, "each row is drawn anew"
    assert all((names[row * 64 : row * 64 + 64] < 128).any() for row in range(7)), "each row has a name"
    np.testing.assert_array_equal(sheet, view_sheet(stored, split, stages, seed=3))
    assert (sheet != view_sheet(stored, split, stages, seed=4)).any()


def test_grey_images_become_grey_pictures() -> None:
    images = np.random.default_rng(0).integers(0, 255, (30, 8, 8, 1), dtype=np.uint8)
    stored = DeviceImages(images, ImageTransform([0.0], [1.0], []), CPU)
    split = Split(np.arange(5), np.arange(5, 15), np.arange(12, 30))
    sheet = view_sheet(stored, split, (Stage(Views(), ("student",), ("student",)),), seed=0)
    assert (sheet[..., 0] == sheet[..., 1]).all()
