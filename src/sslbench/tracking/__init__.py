"""Where a run's numbers go: files, the terminal, W&B. Importing this package never imports wandb."""

from sslbench.tracking.console import ConsoleTracker, show_result
from sslbench.tracking.fanout import Fanout, NullTracker
from sslbench.tracking.files import FileTracker
from sslbench.tracking.tracker import RunInfo, Tracker
from sslbench.tracking.wandb import WandbTracker

__all__ = [
    "ConsoleTracker",
    "Fanout",
    "FileTracker",
    "NullTracker",
    "RunInfo",
    "Tracker",
    "WandbTracker",
    "show_result",
]
