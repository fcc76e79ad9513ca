"""What the loop reports, and the interfaces of those that listen."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from sslbench.errors import UserError


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
        first_step: 0, or the step from which a resumed run continues.
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


@runtime_checkable
class Tracker(Protocol):
    """Listens to one run. ``close`` is called exactly once after ``start``, whatever happens.

    `FollowsSteps` and `LogsImages` are what a tracker may add.
    """

    def start(self, run: RunInfo) -> None:
        """Get ready; called once before the first step."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take one log point; keys are ``train/*``, ``val/*``, ``test/*``, ``time/*``, ``images_seen``."""

    def close(self, status: str, result: Mapping[str, Any] | None) -> None:
        """The run ended as `status`: finished with `result` (``result.json``), failed or interrupted."""


@runtime_checkable
class FollowsSteps(Protocol):
    """A tracker that wants to know of every step."""

    def advance(self, step: int) -> None:
        """`step` steps are finished; called after each, so it must cost next to nothing."""


@runtime_checkable
class LogsImages(Protocol):
    """A tracker that shows the sample images of an algorithm."""

    def log_image(self, step: int, name: str, image: NDArray[np.uint8]) -> None:
        """Take one image, ``[H, W, C]`` of 1 or 3 channels, after the log point of the same step."""


def check_tracker(tracker: object) -> None:
    """Raise `UserError` if an object lacks a method of `Tracker`."""
    for name, method in vars(Tracker).items():
        if inspect.isfunction(method) and not name.startswith("_") and not hasattr(tracker, name):
            arguments = ", ".join([*inspect.signature(method).parameters][1:])
            raise UserError(f"logger: {type(tracker).__name__} has no method {name}({arguments}): write one")
