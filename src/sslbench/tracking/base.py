"""What the loop tells the outside world, and the one interface that listens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class RunInfo:
    """Who a run is.

    Attributes:
        run_id: unique for a configuration; also the name of its folder.
        name: ``<algorithm>-<loss>-<dataset>-<labels>-s<seed>``, for people.
        group: the configuration without its seeds, so that a dashboard averages over them.
        tags: algorithm, data set, labels.
        config: the resolved configuration, nested.
        run_dir: where the run writes.
        total_steps: length of the run.
        first_step: 0, or the step that a resumed run goes on from.
        history: the log points of a resumed run up to its first step, each with ``step``.
    """

    run_id: str
    name: str
    group: str
    tags: Sequence[str]
    config: Mapping[str, Any]
    run_dir: Path
    total_steps: int
    first_step: int
    history: Sequence[Mapping[str, float]] = ()


class Tracker(Protocol):
    """Listens to one run. ``close`` is called exactly once after ``start``, whatever happens."""

    def start(self, run: RunInfo) -> None:
        """Get ready; called once before the first step."""

    def advance(self, step: int) -> None:
        """`step` steps are finished; called after each, so it must cost next to nothing."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take one log point; keys are ``train/*``, ``val/*``, ``test/*``, ``time/*``, ``images_seen``."""

    def show(self, step: int, name: str, picture: NDArray[np.uint8]) -> None:
        """Take one picture, ``[H, W, C]`` of 1 or 3 channels, after the log point of the same step."""

    def close(self, status: str, result: Mapping[str, Any] | None) -> None:
        """The run ended as `status`: finished with `result` (``result.json``), failed or interrupted."""
