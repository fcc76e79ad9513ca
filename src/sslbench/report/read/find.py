"""Finding the runs below folders: those with a result, and those that have none."""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sslbench.errors import UserError
from sslbench.rundir.parsing import load_result, parse, require_schema
from sslbench.rundir.records import PLAN, RESULT, STATUS, PlanEntry, RunResult, RunState, RunSummary
from sslbench.system.paths import relative
from sslbench.system.safe_files import parse_json, read_json, read_text
from sslbench.system.text import ellipsize, escape_control

_SHOWN = 3  # of the runs and files that the one line of an error names
_ERROR_LENGTH = 500  # characters


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

    @property
    def reason(self) -> str:
        """The status, with the error if there is one."""
        return f"{self.status}: {self.error}" if self.error else self.status


@dataclass
class Found:
    """What lies below the folders of a report, in the order of the folders' names.

    Attributes:
        runs: those with a result.
        missing: those without.
        warnings: one line for each file that could not be used.
    """

    runs: list[RunResult] = field(default_factory=list)
    missing: list[MissingRun] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def find_runs(places: Iterable[Path]) -> Found:
    """Read every run at and below `places`, each once however often it is reached.

    A run with damaged files becomes a warning and a missing run, and a place without a run a warning. The
    runs that a sweep planned count wherever its plan says that they are, so that the folder of a sweep stands
    for all its runs.

    Args:
        places: folders, or ``result.json`` files.

    Raises:
        UserError: nothing is known of any run.
    """
    places = list(places)
    found = Found()
    without_runs: list[str] = []
    known: dict[str, MissingRun] = {}
    plans: set[str] = set()
    for place in places:
        empty = True
        try:
            for folder, names in _walk(place, found.warnings):
                empty = empty and not names & {RESULT, STATUS, PLAN}
                if RESULT in names or STATUS in names:
                    known.setdefault(os.path.realpath(folder), MissingRun(folder, RunState.NOT_STARTED))
                plan = folder / PLAN
                if PLAN in names and os.path.realpath(plan) not in plans:
                    plans.add(os.path.realpath(plan))
                    for run in _planned(plan, found.warnings):
                        key = os.path.realpath(run.folder)
                        known[key] = replace(run, folder=known.get(key, run).folder)
            if empty:
                raise UserError(f"no run in {relative(place)}")
        except UserError as error:
            without_runs.append(str(error))
    for key in sorted(known):
        _read(known[key], found)
    found.warnings += without_runs
    if not found.runs and not any(run.run for run in found.missing):
        unfinished = [
            f"not finished: {relative(run.folder)} ({run.reason})"
            for run in found.missing
            if run.status != "damaged"
        ]
        hints = "; ".join([*unfinished, *found.warnings][:_SHOWN])
        raise UserError(f"nothing to report in {', '.join(map(relative, places))}; {hints}")
    return found


def _walk(place: Path, warnings: list[str]) -> Iterator[tuple[Path, set[str]]]:
    """The folders at and below `place`, each with all that lies in it."""
    if place.name == RESULT and os.path.isfile(place):  # noqa: PTH113 - Path.is_file raises in closed folders
        yield place.parent, {RESULT}
        return
    if not os.path.isdir(place):  # noqa: PTH112 - likewise
        if os.path.lexists(place):
            raise UserError(f"{relative(place)} is no folder, and no {RESULT}")
        raise UserError(f"no folder {relative(place)}")

    def warn(error: OSError) -> None:
        # A folder that cannot be listed must not pass for an empty one.
        warnings.append(f"cannot read {relative(Path(error.filename))}: {error.strerror}")

    visited: set[str] = set()
    for folder, folders, names in os.walk(place, onerror=warn, followlinks=True):
        real = os.path.realpath(folder)
        if real in visited:  # links may lead in a circle
            folders.clear()
            continue
        visited.add(real)
        yield Path(folder), {*folders, *names}
        # Links last, so that a run has the name of its own folder where that is below `place` too.
        folders.sort(key=lambda name: (os.path.islink(os.path.join(folder, name)), name))  # noqa: PTH114, PTH118


def _planned(path: Path, warnings: list[str]) -> list[MissingRun]:
    """The runs of a sweep's plan, as if none was started; a line that cannot be used is a warning."""
    found: list[MissingRun] = []
    try:
        lines = read_text(path, relative(path)).split("\n")
    except UserError as error:
        warnings.append(str(error))
        return []
    for number, line in enumerate(lines, start=1):
        where = f"{relative(path)}, line {number}"
        try:
            if line.strip():
                content = parse_json(line, where)
                require_schema(content, where)
                entry = parse(PlanEntry, content, where)
                folder = path.parent / entry.folder
                found.append(MissingRun(folder, RunState.NOT_STARTED, "", entry.run, entry.settings))
        except UserError as error:
            warnings.append(str(error))
    return found


def _read(planned: MissingRun, found: Found) -> None:
    path = planned.folder / RESULT
    if not os.path.lexists(path):
        if missing := _status(planned, found.warnings):
            found.missing.append(missing)
        return
    try:
        found.runs.append(load_result(path, relative(path)))
    except UserError as error:
        found.warnings.append(f"{error}; left out: remove the run's folder, or run it again")
        # The status or the rest of the result may still say which run it is; their damage is no news.
        status = _status(planned, [])
        run = status.run if status else None
        with suppress(UserError):
            run = run or parse(RunSummary, read_json(path), "")
        reason = str(error).removeprefix(relative(path)).lstrip(": ")
        found.missing.append(replace(planned, status="damaged", error=f"{RESULT} {reason}", run=run))


def _status(planned: MissingRun, warnings: list[str]) -> MissingRun | None:
    """What the ``status.json`` of a run without a result adds to what is known of it.

    Other programs write files of this name too: in a folder that no sweep planned, a file without a run's
    status and without a ``run`` gives a warning and no missing run.
    """
    path, run = planned.folder / STATUS, planned.run
    try:
        found = read_json(path, relative(path))
    except UserError as error:
        if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
            return planned
        warnings.append(str(error))
        return replace(planned, status="unknown") if run else None
    status, error_text = found.get("status"), found.get("error")
    known = status in tuple(RunState)
    if not (run or known or "run" in found):
        warnings.append(f"{relative(path)} is not the status of a run; left out")
        return None
    if "run" in found:
        try:
            run = parse(RunSummary, found["run"], f"{relative(path)}: run")
        except UserError as error:
            warnings.append(str(error))
    if status == RunState.FINISHED:
        status, error_text = "no result", f"it says that it is finished, but there is no {RESULT}"
    lines = error_text.strip().splitlines() if isinstance(error_text, str) else []
    error_line = ellipsize(escape_control(lines[0]), _ERROR_LENGTH) if lines else ""
    return replace(planned, status=str(status) if known else "unknown", error=error_line, run=run)
