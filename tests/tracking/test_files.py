from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sslbench.tracking import FileTracker, RunInfo

MakeRun = Callable[..., RunInfo]


def show_at(run: RunInfo, *steps: int) -> None:
    tracker = FileTracker()
    tracker.start(run)
    for step in steps:
        tracker.log_image(step, "generated", np.full((2, 3, 1), step % 256, dtype=np.uint8))
    tracker.close("interrupted", None)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_a_picture_is_a_file_before_the_run_ends(
    make_run: MakeRun, tmp_path: Path, channels: int, mode: str
) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (6, 4, channels), dtype=np.uint8)
    tracker = FileTracker()
    tracker.start(make_run())
    tracker.log_image(40, "generated", picture)
    tracker.log_image(40, "real", picture)
    assert names_in(tmp_path / "pictures") == ["generated-0000040.png", "real-0000040.png"]
    tracker.close("interrupted", None)
    with Image.open(tmp_path / "pictures" / "generated-0000040.png") as image:
        assert image.mode == mode
        np.testing.assert_array_equal(np.asarray(image).reshape(picture.shape), picture)


def test_numbers_leave_no_folder(make_run: MakeRun, tmp_path: Path) -> None:
    tracker = FileTracker()
    tracker.start(make_run())
    tracker.log(1, {"train/loss": 0.5})
    tracker.close("finished", {})
    assert names_in(tmp_path) == ["metrics.jsonl"]


def test_resuming_drops_the_pictures_after_the_checkpoint(make_run: MakeRun, tmp_path: Path) -> None:
    show_at(make_run(), 10, 20, 30, 40, 12_345_678)
    show_at(make_run(first_step=20))
    assert names_in(tmp_path / "pictures") == ["generated-0000010.png", "generated-0000020.png"]
    show_at(make_run(first_step=20), 30)
    assert len(names_in(tmp_path / "pictures")) == 3


def test_a_new_run_drops_the_pictures_of_the_old_one(make_run: MakeRun, tmp_path: Path) -> None:
    show_at(make_run(), 10, 20)
    show_at(make_run(), 30)
    assert names_in(tmp_path / "pictures") == ["generated-0000030.png"]


def test_files_that_it_did_not_write_stay(make_run: MakeRun, tmp_path: Path) -> None:
    foreign = ["mine.png", "photo-2024.png", "generated-last.png", "notes-0000099.txt"]
    show_at(make_run(), 10)
    for name in foreign:
        (tmp_path / "pictures" / name).touch()
    show_at(make_run(first_step=10))
    assert names_in(tmp_path / "pictures") == sorted(["generated-0000010.png", *foreign])
