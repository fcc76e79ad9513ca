"""The tracker that listens to nothing, so that no caller asks whether there is one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

from sslbench.tracking.base import RunInfo


@final
class NullTracker:
    """Ignores the run; chosen with ``logger=none``."""

    def start(self, run: RunInfo) -> None:
        """Do nothing."""

    def advance(self, step: int) -> None:
        """Do nothing."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Do nothing."""

    def close(self, status: str, result: Mapping[str, Any] | None) -> None:
        """Do nothing."""
