"""Where a run's numbers go: files, the terminal, W&B. Importing this package never imports wandb."""

from sslbench.tracking.console import ConsoleTracker, show_result
from sslbench.tracking.fanout import Fanout
from sslbench.tracking.files import FileTracker
from sslbench.tracking.jsonl import read_metrics
from sslbench.tracking.tracker import NullTracker, RunInfo, Tracker
from sslbench.tracking.wandb import WandbTracker

__all__ = [
    "ConsoleTracker",
    "Fanout",
    "FileTracker",
    "NullTracker",
    "RunInfo",
    "Tracker",
    "WandbTracker",
    "read_metrics",
    "show_result",
]
