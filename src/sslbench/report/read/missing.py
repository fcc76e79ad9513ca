"""Runs without a result: what ``status.json`` and a sweep's ``cells.jsonl`` say of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sslbench.errors import UserError
from sslbench.report.read.fields import Count, read_fields, read_object, read_text
from sslbench.report.read.results import RESULT, require_schema
from sslbench.system.paths import relative
from sslbench.system.safe_files import parse_json
from sslbench.system.text import ellipsize, escape_control

STATUS = "status.json"
CELLS = "cells.jsonl"
_ERRORS = "errors"
_STATES = ("running", "failed", "interrupted")
_FINISHED = "finished"
_ERROR_LENGTH = 500  # characters
_MOST_WARNINGS = 3  # of one file


@dataclass(frozen=True)
class Identity:
    """Which run it is; the fields are those of `RunResult`."""

    run_id: str
    name: str
    group: str
    algorithm: str
    dataset: str
    model: str
    loss: str | None
    num_labels: Count
    num_valid: Count
    seed: int
    split_seed: int
    steps: Count


@dataclass(frozen=True)
class Planned:
    """A cell of a sweep's plan.

    Attributes:
        run: which run it is.
        settings: what it computes but for its seeds; empty in plans of older versions.
        note: where a worker left an error that the run's folder does not hold; it need not exist.
    """

    run: Identity
    settings: Mapping[str, Any]
    note: Path


@dataclass(frozen=True)
class MissingRun:
    """A run that has no result that can be read.

    Attributes:
        folder: the run directory; it need not exist.
        status: ``failed``, ``interrupted``, ``running`` (or killed without warning), ``not started``,
            ``no result`` (it says that it is finished), ``damaged`` (its result cannot be read), or
            ``unknown``.
        error: what went wrong, on one line; empty where nothing is known.
        run: which run it is; None for folders of older versions.
        settings: what a sweep planned to be run, as nested mappings; empty where nothing is known.
    """

    folder: Path
    status: str
    error: str = ""
    run: Identity | None = None
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


def load_status(folder: Path, planned: Planned | None) -> tuple[MissingRun | None, list[str]]:
    """What is known of a run without ``result.json``, and warnings about its ``status.json``.

    Other programs have files of this name too: where nobody planned a run in the folder, a file without a
    status that a run has, and without a ``run``, is a warning and no missing run.

    Args:
        folder: the run directory.
        planned: what a sweep says about it.
    """
    path = folder / STATUS
    run, settings = (planned.run, planned.settings) if planned else (None, {})
    if planned and (noted := _noted(planned)) and not _is_newer(path, planned.note):
        return MissingRun(folder, "failed", noted, run, settings), []
    try:
        found = read_object(path)
    except UserError as error:
        if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
            return MissingRun(folder, "not started", run=run, settings=settings), []
        return MissingRun(folder, "unknown", run=run, settings=settings) if planned else None, [str(error)]
    if not planned and "run" not in found and found.get("status") not in (*_STATES, _FINISHED):
        return None, [f"{relative(path)} is not the status of a run; left out"]
    warnings = []
    if "run" in found:
        try:
            run = _identity(found["run"], f"{relative(path)}: run")
        except UserError as error:
            warnings.append(str(error))
    status, error_text = found.get("status"), found.get("error")
    error_line = _line(error_text) if isinstance(error_text, str) else ""
    if status == _FINISHED:
        status, error_line = "no result", f"it says that it is finished, but there is no {RESULT}"
    elif status not in _STATES:
        status = "unknown"
    return MissingRun(folder, status, error_line, run, settings), warnings


def _noted(planned: Planned) -> str:
    """The error that a worker left in the folder of the sweep; empty if there is none."""
    if planned.note.name != f"{planned.run.run_id}.txt":  # the name would lead elsewhere
        return ""
    try:
        return _line(read_text(planned.note))
    except UserError:
        return ""


def _is_newer(path: Path, than: Path) -> bool:
    """Whether a run has been begun after its error was noted."""
    try:
        return path.stat().st_mtime_ns > than.stat().st_mtime_ns
    except OSError:
        return False


def _line(text: str) -> str:
    lines = text.strip().splitlines()
    return ellipsize(escape_control(lines[0]), _ERROR_LENGTH) if lines else ""


def identity_in_result(path: Path) -> Identity | None:
    """Which run a ``result.json`` is of that is otherwise damaged; None if it does not say."""
    try:
        return read_fields(Identity, read_object(path), relative(path))
    except UserError:  # the damage has been told already
        return None


def _identity(found: object, where: str) -> Identity:
    if not isinstance(found, dict):
        raise UserError(f"{where} must be an object")
    return read_fields(Identity, found, where)


def _is_path(text: str) -> bool:
    """Whether a system takes it: not so NUL, nor halves of characters other than Python's for raw bytes."""
    try:
        return bool(text) and b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def read_cells(path: Path) -> tuple[dict[Path, Planned], list[str]]:
    """The run folders that a sweep planned, and warnings about lines that say nothing.

    Args:
        path: a ``cells.jsonl``; its folders are relative to the folder it lies in.

    Raises:
        UserError: the file cannot be read.
    """
    cells: dict[Path, Planned] = {}
    wrong: list[tuple[int, str]] = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{relative(path)}, line {number}"
        try:
            found = parse_json(line, where)
            require_schema(found.get("schema"), where)
            folder = found.get("folder")
            if not isinstance(folder, str) or not _is_path(folder):
                raise UserError(f"{where}: 'folder' must be the path of a folder")
            settings = found.get("settings", {})
            if not isinstance(settings, dict):
                raise UserError(f"{where}: 'settings' must be an object")
            run = _identity(found.get("run"), f"{where}: run")
            cells[path.parent / folder] = Planned(run, settings, path.parent / _ERRORS / f"{run.run_id}.txt")
        except UserError as error:
            wrong.append((number, str(error)))
    warnings = [text for _, text in wrong[:_MOST_WARNINGS]]
    if rest := wrong[_MOST_WARNINGS:]:
        warnings.append(f"{relative(path)}, from line {rest[0][0]}: {len(rest)} more lines cannot be used")
    return cells, warnings
