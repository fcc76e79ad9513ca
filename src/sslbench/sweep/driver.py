"""The process of a sweep, as its workers know it."""

from __future__ import annotations

import os
import threading
import time
from functools import cache

#: In the environment of a job, the process id of its sweep, if that trains it or has started its worker.
#: Workers of other engines may outlive the sweep: jobs in a queue do not need it.
DRIVER = "SSLBENCH_SWEEP_PID"
_POLL_SECONDS = 0.5


def driver() -> int | None:
    """The sweep's process; None in a worker of an engine that outlives it."""
    number = os.environ.get(DRIVER, "")
    return int(number) if number.isdecimal() else None


@cache
def end_with(sweep: int) -> None:
    """End this worker, and with it its cell, as soon as the process `sweep`, its parent, is gone.

    A worker of joblib would go on with what it was handed in advance, then wait for a killed sweep for ever,
    and keep in memory what was imported for its cells.
    """
    threading.Thread(target=_wait_and_exit, args=(sweep,), daemon=True).start()


def _wait_and_exit(sweep: int) -> None:
    while os.getppid() == sweep:
        time.sleep(_POLL_SECONDS)
    os._exit(1)
