"""The runs of a sweep: what is planned, where each one writes, and how it stands there."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sslbench.config.identity import SEEDS
from sslbench.config.schema import Settings
from sslbench.errors import UserError
from sslbench.rundir.records import PLAN, RESULT, SCHEMA, STATUS, RunState
from sslbench.rundir.result import read_result
from sslbench.rundir.status import read_status
from sslbench.system.atomic_files import write_text_atomically
from sslbench.system.text import escape_control

#: When the result and the status of a run were written.
Stamp = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class PlannedRun:
    """A run that a sweep is to carry out."""

    settings: Settings
    folder: Path  # absolute
    summary: dict[str, Any]

    @property
    def run_id(self) -> str:
        """Of the run."""
        return str(self.summary["run_id"])

    def __str__(self) -> str:
        return self.folder.name

    def state(self) -> tuple[RunState, str]:
        """How the run stands by the files in its folder, and its error if it has one.

        A process that was killed without warning leaves ``running`` behind. ``finished`` without a result
        is a result that was deleted: the run continues from its last checkpoint.
        """
        if self.result():
            return RunState.FINISHED, ""
        status = read_status(self.folder)
        error = escape_control(str(status.get("error", "")))
        try:
            state = RunState(status.get("status", ""))
        except ValueError:
            state = RunState.NOT_STARTED
        return RunState.INTERRUPTED if state == RunState.FINISHED else state, error

    def has_ended(self, since: Stamp) -> bool:
        """Whether the run finished, or failed after it had the stamp `since`."""
        state, _ = self.state()
        return state == RunState.FINISHED or (state == RunState.FAILED and self.stamp() != since)

    def result(self) -> dict[str, Any]:
        """The content of the run's ``result.json``; empty unless it is a result of this very run."""
        try:
            found = read_result(self.folder)
        except UserError:
            return {}
        return found if found.get("run_id") == self.run_id else {}

    def stamp(self) -> Stamp:
        """Changes whenever the result or the status is written."""
        return modified(self.folder / RESULT), modified(self.folder / STATUS)


def modified(path: Path) -> int:
    """When the file was written, in nanoseconds; 0 if there is none."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def without_repeats(runs: Iterable[PlannedRun]) -> list[PlannedRun]:
    """Each run once: a distance, say, makes no difference to an algorithm that takes none.

    Raises:
        UserError: two different runs were given the same folder.
    """
    kept: dict[Path, PlannedRun] = {}
    for run in runs:
        first = kept.setdefault(run.folder, run)
        if first.run_id != run.run_id:
            raise UserError(
                f"{run.folder} would be the folder of two different runs, {first.run_id} and {run.run_id}: "
                f"in a sweep, give output_root instead of run_dir"
            )
    return list(kept.values())


def write_plan(folder: Path, runs: Iterable[PlannedRun]) -> None:
    """Write down what a sweep is to run, so that a report can show what is missing.

    Runs' folders are written as seen from that of the sweep, so that both can be moved together.

    Raises:
        OSError: the file cannot be written.
    """
    lines = []
    for run in runs:
        identity = {key: value for key, value in run.settings.identity().items() if key not in SEEDS}
        entry = {
            "schema": SCHEMA,
            "folder": Path(os.path.relpath(run.folder, folder)).as_posix(),
            "overrides": run.settings.overrides,
            "run": run.summary,
            "settings": {**identity, "choices": run.settings.choices},
        }
        lines.append(json.dumps(entry) + "\n")
    write_text_atomically(folder / PLAN, "".join(lines))
