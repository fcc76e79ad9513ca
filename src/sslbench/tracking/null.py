"""The tracker that listens to nothing, so that no caller asks whether there is one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from sslbench.tracking.tracker import RunInfo


@final
class NullTracker:
    """Ignores the run; chosen with ``logger=none``."""

    def start(self, run: RunInfo) -> None:
        """Do nothing."""

    def advance(self, step: int) -> None:
        """Do nothing."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Do nothing."""

    def show(self, step: int, name: str, picture: NDArray[np.uint8]) -> None:
        """Do nothing."""

    def close(self, status: str, result: Mapping[str, Any] | None) -> None:
        """Do nothing."""
