"""Where a run's numbers go: files, the terminal, W&B. Importing this package never imports wandb."""

from __future__ import annotations

from sslbench.tracking.console import ConsoleTracker, show_result
from sslbench.tracking.fanout import Fanout
from sslbench.tracking.jsonl import JsonlTracker, read_metrics
from sslbench.tracking.null import NullTracker
from sslbench.tracking.pictures import PictureTracker
from sslbench.tracking.tracker import RunInfo, Tracker
from sslbench.tracking.wandb import WandbTracker

__all__ = [
    "ConsoleTracker",
    "Fanout",
    "JsonlTracker",
    "NullTracker",
    "PictureTracker",
    "RunInfo",
    "Tracker",
    "WandbTracker",
    "read_metrics",
    "show_result",
]
