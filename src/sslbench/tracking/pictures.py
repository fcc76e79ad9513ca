"""``pictures/``: what a method has to show, as PNG files in the run's folder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from sslbench.system.atomic_files import write_atomically
from sslbench.tracking.tracker import RunInfo

FOLDER = "pictures"
_OWN = re.compile(r".+-(\d{7,})\.png", re.ASCII)


@final
class PictureTracker:
    """Writes each picture as ``pictures/<name>-<step>.png``; a method without pictures gets no folder."""

    def __init__(self) -> None:
        self._folder: Path | None = None

    def start(self, run: RunInfo) -> None:
        """Drop the pictures that a resumed run is about to make again."""
        self._folder = run.run_dir / FOLDER
        for path in self._folder.glob("*.png"):
            own = _OWN.fullmatch(path.name)
            if own and int(own[1]) > run.first_step:
                path.unlink()

    def advance(self, step: int) -> None:
        """Do nothing: only pictures are written."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Do nothing: only pictures are written."""

    def show(self, step: int, name: str, picture: NDArray[np.uint8]) -> None:
        """Write one file."""
        from PIL import Image  # only some methods have pictures

        assert self._folder is not None, "show before start"
        self._folder.mkdir(exist_ok=True)
        image = Image.fromarray(picture[..., 0] if picture.shape[2] == 1 else picture)
        path = self._folder / f"{name}-{step:07d}.png"
        write_atomically(path, lambda part: image.save(part, format="png"))

    def close(self, status: str, result: Mapping[str, Any] | None) -> None:
        """Do nothing: each file is whole."""
