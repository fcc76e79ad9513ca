"""``status.json``: how a run stands."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from traceback import format_exception
from types import TracebackType
from typing import Any, final

from sslbench.config.identity import Node
from sslbench.errors import UserError, in_one_line
from sslbench.rundir.records import RESULT, STATUS, RunState
from sslbench.system.atomic_files import write_text_atomically
from sslbench.system.safe_files import read_json


def write_status(directory: Path, status: str, summary: Node, **details: Any) -> None:
    """Write ``status.json``, with ``error``, a line, and ``traceback`` in `details`, if there are any.

    `summary` holds the fields of `RunSummary`, so that a report can name a run without a result.
    """
    content = {"status": status, "pid": os.getpid(), **details, "run": summary}
    write_text_atomically(directory / STATUS, json.dumps(content, indent=2) + "\n")


def read_status(directory: Path) -> dict[str, Any]:
    """The content of ``status.json``; empty where there is none, or none that can be read."""
    try:
        return read_json(directory / STATUS)
    except UserError:
        return {}


@final
class Status:
    """``status.json``: running while the block runs, then finished, failed with the error, or interrupted.

    Attributes:
        outcome: what the file says.
    """

    def __init__(self, directory: Path, summary: Node) -> None:
        self._directory = directory
        self._summary = summary
        self.outcome = RunState.RUNNING

    def _write(self, outcome: RunState, **details: str) -> None:
        self.outcome = outcome
        write_status(self._directory, outcome, self._summary, **details)

    def __enter__(self) -> Status:
        self._write(RunState.RUNNING)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._write(RunState.FINISHED)
        elif isinstance(error, KeyboardInterrupt):
            # The signal may have come after the result was written.
            finished = (self._directory / RESULT).exists()
            self._write(RunState.FINISHED if finished else RunState.INTERRUPTED)
        else:
            # A full disk is no fault of the run, which can continue elsewhere or later.
            interrupted = isinstance(error, OSError | SystemExit)
            outcome = RunState.INTERRUPTED if interrupted else RunState.FAILED
            with suppress(OSError):  # the disk may be too full for this file too; `error` is raised anyway
                self._write(outcome, error=in_one_line(error), traceback="".join(format_exception(error)))
