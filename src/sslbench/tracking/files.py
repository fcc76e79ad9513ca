"""What a run logs into its own folder: ``metrics.jsonl``, and ``pictures/`` where there are sample images."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO, final

import numpy as np
from numpy.typing import NDArray

from sslbench.system.atomic_files import write_atomically, write_text_atomically
from sslbench.tracking.jsonl import FILE_NAME, to_line
from sslbench.tracking.tracker import RunInfo

IMAGES = "pictures"
_IMAGE = re.compile(r".+-(\d{7,})\.png", re.ASCII)


@final
class FileTracker:
    """Appends log points to ``metrics.jsonl``, and writes images into ``pictures/``.

    An image is called ``<name>-<step>.png``, and ``<name>.png`` where it is of before the first step.

    Each line is handed to the system at once, so that a killed process loses none, but it is not synced: what
    a power cut may lose is in the checkpoint. A resumed run begins with what its checkpoint holds: later log
    points and images are dropped, and logged again.
    """

    def __init__(self) -> None:
        self._metrics: TextIO | None = None
        self._images = Path()

    def start(self, run: RunInfo) -> None:
        path = run.run_dir / FILE_NAME
        # Renamed into place: a kill here leaves the old curves or the new, never half of them.
        write_text_atomically(path, "".join(map(to_line, run.history)))
        self._metrics = path.open("a", encoding="utf-8")
        self._images = run.run_dir / IMAGES
        for image in self._images.glob("*.png"):
            own = _IMAGE.fullmatch(image.name)
            if own and int(own[1]) > run.first_step:
                image.unlink()

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        assert self._metrics is not None, "log before start"
        self._metrics.write(to_line({"step": step, **metrics}))
        self._metrics.flush()

    def log_image(self, step: int, name: str, image: NDArray[np.uint8]) -> None:
        from PIL import Image  # only few algorithms have images

        self._images.mkdir(exist_ok=True)
        picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
        path = self._images / (f"{name}-{step:07d}.png" if step else f"{name}.png")
        write_atomically(path, lambda part: picture.save(part, format="png"))

    def close(self, status: str, result: Mapping[str, Any] | None) -> None:
        if self._metrics is not None:
            self._metrics.close()
            self._metrics = None
