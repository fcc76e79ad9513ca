"""The cells of a sweep: what is planned, where each one writes, and how it stands there."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from sslbench.config.identity import SEEDS
from sslbench.config.schema import Settings
from sslbench.errors import UserError
from sslbench.rundir.records import RESULT, STATUS
from sslbench.rundir.result import read_result
from sslbench.rundir.status import read_status
from sslbench.system.atomic_files import write_text_atomically
from sslbench.system.safe_files import read_text
from sslbench.system.text import escape_control

CELLS_SCHEMA = 1
CELLS = "cells.jsonl"
#: Of a cell's files, by which a change is noticed.
Stamp = tuple[int, ...]


class State(StrEnum):
    """How a cell stands."""

    NOT_STARTED = "not started"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, eq=False)
class Cell:
    """One run of a sweep.

    Attributes:
        overrides: that make its configuration, as Hydra takes them.
        folder: of the run, absolute.
        summary: from `Settings.summary`.
        settings: all that it computes but its seeds, and the choice of each group under ``choices``.
        note: where a worker leaves an error that the run's folder does not hold; None for nowhere.
    """

    overrides: tuple[str, ...]
    folder: Path
    summary: dict[str, Any]
    settings: dict[str, Any]
    note: Path | None = None

    @classmethod
    def of(cls, settings: Settings, overrides: Iterable[str], known: dict[str, dict[str, Any]]) -> Cell:
        """The cell with these settings.

        Args:
            settings: of the run.
            overrides: that make them.
            known: settings by group, which cells that differ in their seeds share: there may be thousands.
        """
        summary = settings.summary()
        if summary["group"] not in known:
            shared = {key: value for key, value in settings.identity().items() if key not in SEEDS}
            known[summary["group"]] = {**shared, "choices": settings.choices}
        return cls(tuple(overrides), settings.directory(), summary, known[summary["group"]])

    @property
    def run_id(self) -> str:
        """Of the run."""
        return str(self.summary["run_id"])

    def __str__(self) -> str:
        return self.folder.name

    def state(self) -> tuple[State, str]:
        """How the cell stands, and its error if it has one."""
        state, error = self.in_folder()
        noted = "" if state == State.FINISHED else self.noted()
        return (State.FAILED, noted) if noted else (state, error)

    def noted(self) -> str:
        """The error that the run's folder does not hold, in one line; empty where there is none."""
        try:
            return escape_control(read_text(self.note, "it").strip()) if self.note else ""
        except UserError:
            return ""

    def in_folder(self) -> tuple[State, str]:
        """How the cell stands by the files in the run's folder alone, and its error there.

        A process that was killed without warning leaves ``running`` behind. ``finished`` without a result
        is a result that was deleted: the run goes on from its last checkpoint.
        """
        if self.result():
            return State.FINISHED, ""
        status = read_status(self.folder)
        error = escape_control(str(status.get("error", "")))
        try:
            state = State(status.get("status", ""))
        except ValueError:
            state = State.NOT_STARTED
        return State.INTERRUPTED if state == State.FINISHED else state, error

    def result(self) -> dict[str, Any]:
        """The content of the cell's ``result.json``; empty unless it is a result of this very run."""
        try:
            found = read_result(self.folder)
        except UserError:
            return {}
        return found if found.get("run_id") == self.run_id else {}

    def stamp(self) -> Stamp:
        """Changes whenever the result, the status or the note is written."""
        paths = (self.folder / RESULT, self.folder / STATUS, self.note)
        return tuple(modified(path) for path in paths if path)


def modified(path: Path) -> int:
    """When the file was written, in nanoseconds; 0 if there is none."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def without_repeats(cells: Iterable[Cell]) -> list[Cell]:
    """Each run once: a distance, say, makes no difference to an algorithm that takes none.

    Raises:
        UserError: two different runs were given the same folder.
    """
    kept: dict[Path, Cell] = {}
    for cell in cells:
        first = kept.setdefault(cell.folder, cell)
        if first.run_id != cell.run_id:
            raise UserError(
                f"{cell.folder} would be the folder of two different runs, {first.run_id} and {cell.run_id}: "
                f"in a sweep, give output_root instead of run_dir"
            )
    return list(kept.values())


def write_cells(folder: Path, cells: Iterable[Cell]) -> None:
    """Write down what a sweep is to run, so that a report can tell what is missing.

    Args:
        folder: of the sweep; run folders are written as seen from it, so that both can be moved together.
        cells: planned.
    """
    lines = [
        json.dumps(
            {
                "schema": CELLS_SCHEMA,
                "folder": Path(os.path.relpath(cell.folder, folder)).as_posix(),
                "overrides": list(cell.overrides),
                "run": cell.summary,
                "settings": cell.settings,
            }
        )
        for cell in cells
    ]
    write_text_atomically(folder / CELLS, "".join(f"{line}\n" for line in lines))
