"""What the tests of sweeps share; a name of its own, since every folder may have a conftest."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Sslbench = Callable[..., int]

#: A run of a second or two.
TINY = [
    "model=mlp",
    "model.hidden=[16]",
    "steps=4",
    "eval_every=2",
    "logger=none",
    "device=cpu",
    "threads=1",
]

#: An algorithm that raises in its first step, to be put into a folder of one's own.
BROKEN = """
from sslbench.algorithms.supervised import Supervised


class Broken:
    views, trained, predictors = Supervised.views, Supervised.trained, Supervised.predictors
    build, after_step = Supervised.build, Supervised.after_step

    def step(self, models, batch, progress):
        raise RuntimeError("made to fail")
"""


def add_broken(folder: Path) -> list[str]:
    """Put ``algorithm=broken`` into `folder`, which must be importable; returns the options to find it."""
    (folder / "conf" / "algorithm").mkdir(parents=True)
    (folder / "broken_algorithm.py").write_text(BROKEN)
    (folder / "conf" / "algorithm" / "broken.yaml").write_text("_target_: broken_algorithm.Broken\n")
    return ["--config-dir", str(folder / "conf")]


def read(path: Path) -> dict[str, Any]:
    """A JSON file."""
    content: dict[str, Any] = json.loads(path.read_text())
    return content
