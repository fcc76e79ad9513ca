"""Runs without a result: what ``status.json`` and the plan of a sweep say about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sslbench.errors import UserError
from sslbench.rundir.parsing import parse, require_schema
from sslbench.rundir.records import RESULT, STATUS, PlanEntry, RunState, RunSummary
from sslbench.system.paths import relative
from sslbench.system.safe_files import parse_json, read_json, read_text
from sslbench.system.text import ellipsize, escape_control

_ERROR_LENGTH = 500  # characters
_MOST_WARNINGS = 3  # of one file


@dataclass(frozen=True)
class MissingRun:
    """A run that has no result that can be read.

    Attributes:
        folder: the run folder; it need not exist.
        status: ``failed``, ``interrupted``, ``running`` (or killed without warning), ``not started``,
            ``no result`` (its status is finished), ``damaged`` (its result cannot be read), ``in conflict``
            (with another result), or ``unknown``.
        error: what went wrong, on one line; empty where nothing is known.
        run: which run it is; None for folders of older versions.
        settings: what a sweep planned to be run, as nested mappings; empty where nothing is known.
    """

    folder: Path
    status: str
    error: str = ""
    run: RunSummary | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.place} ({self.reason})"

    @property
    def place(self) -> str:
        """The folder, as seen from the working directory."""
        return relative(self.folder)

    @property
    def reason(self) -> str:
        """The status, with the error if there is one."""
        return f"{self.status}: {self.error}" if self.error else self.status


def load_status(folder: Path, planned: PlanEntry | None) -> tuple[MissingRun | None, list[str]]:
    """What is known of a run without ``result.json``, and warnings about its ``status.json``.

    Other programs write files of this name too: in a folder that no sweep planned, a file without a run's
    status and without a ``run`` gives a warning and no missing run.

    Args:
        folder: the run folder.
        planned: what the plan of a sweep says about it.
    """
    path = folder / STATUS
    run, settings = (planned.run, planned.settings) if planned else (None, {})
    try:
        found = read_json(path, relative(path))
    except UserError as error:
        if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
            return MissingRun(folder, RunState.NOT_STARTED, run=run, settings=settings), []
        return MissingRun(folder, "unknown", run=run, settings=settings) if planned else None, [str(error)]
    status, error_text = found.get("status"), found.get("error")
    known = status in (RunState.RUNNING, RunState.FINISHED, RunState.FAILED, RunState.INTERRUPTED)
    if not (planned or known or "run" in found):
        return None, [f"{relative(path)} is not the status of a run; left out"]
    warnings = []
    if "run" in found:
        try:
            run = parse(RunSummary, found["run"], f"{relative(path)}: run")
        except UserError as error:
            warnings.append(str(error))
    error_line = _first_line(error_text) if isinstance(error_text, str) else ""
    if status == RunState.FINISHED:
        status, error_line = "no result", f"it says that it is finished, but there is no {RESULT}"
    return MissingRun(folder, str(status) if known else "unknown", error_line, run, settings), warnings


def _first_line(text: str) -> str:
    lines = text.strip().splitlines()
    return ellipsize(escape_control(lines[0]), _ERROR_LENGTH) if lines else ""


def read_plan(path: Path) -> tuple[dict[Path, PlanEntry], list[str]]:
    """The runs that a sweep planned by their folders, and warnings about lines that cannot be used.

    Args:
        path: of the plan; run folders are relative to the folder that it lies in.

    Raises:
        UserError: the file cannot be read.
    """
    entries: dict[Path, PlanEntry] = {}
    wrong: list[tuple[int, str]] = []
    for number, line in enumerate(read_text(path, relative(path)).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{relative(path)}, line {number}"
        try:
            found = parse_json(line, where)
            require_schema(found, where)
            entry = parse(PlanEntry, found, where)
            entries[path.parent / entry.folder] = entry
        except UserError as error:
            wrong.append((number, str(error)))
    warnings = [text for _, text in wrong[:_MOST_WARNINGS]]
    if rest := wrong[_MOST_WARNINGS:]:
        warnings.append(f"{relative(path)}, from line {rest[0][0]}: {len(rest)} more lines cannot be used")
    return entries, warnings
