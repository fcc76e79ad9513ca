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
from sslbench.errors import UserError
from sslbench.rundir.result import RESULT
from sslbench.system.atomic_files import write_text_atomically
from sslbench.system.safe_files import parse_json, read_text

STATUS = "status.json"
#: The status of a run that has a result.
FINISHED = "finished"


def write_status(directory: Path, status: str, summary: Node, **details: Any) -> None:
    """Write ``status.json``.

    Args:
        directory: of the run.
        status: ``running``, ``finished``, ``failed`` or ``interrupted``.
        summary: of the run's settings, so that a run without a result can be told in a report.
        details: ``error``, a line, and ``traceback``, where there are any.
    """
    content = {"status": status, "pid": os.getpid(), **details, "run": summary}
    write_text_atomically(directory / STATUS, json.dumps(content, indent=2) + "\n")


def read_status(directory: Path) -> dict[str, Any]:
    """The content of ``status.json``; empty where there is none, or none that can be read."""
    path = directory / STATUS
    try:
        return parse_json(read_text(path), str(path))
    except UserError:
        return {}


def in_words(error: BaseException) -> str:
    """An error in one line."""
    told = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    return " ".join(told.split())


@final
class Status:
    """``status.json``: running while the block runs, then finished, failed with the error, or interrupted.

    Args:
        directory: of the run.
        summary: of the run's settings.
    """

    def __init__(self, directory: Path, summary: Node) -> None:
        self._directory = directory
        self._summary = summary
        self.outcome = "running"

    def _write(self, **details: str) -> None:
        write_status(self._directory, self.outcome, self._summary, **details)

    def __enter__(self) -> Status:
        self._write()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.outcome = FINISHED
            self._write()
        elif isinstance(error, KeyboardInterrupt):
            # Asked to end when all was done, it is done.
            self.outcome = FINISHED if (self._directory / RESULT).exists() else "interrupted"
            self._write()
        else:
            # A full disk is not the run's fault: the same run would go on elsewhere, or later.
            self.outcome = "interrupted" if isinstance(error, OSError | SystemExit) else "failed"
            # A disk may be so full that not even this fits; the error itself is on its way up.
            with suppress(OSError):
                self._write(error=in_words(error), traceback="".join(format_exception(error)))
