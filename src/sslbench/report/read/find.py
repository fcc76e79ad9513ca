"""Finding the runs below folders: those with a result, and those that have none."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sslbench.errors import UserError
from sslbench.report.read.missing import MissingRun, load_status, read_plan
from sslbench.rundir.parsing import load_result, parse
from sslbench.rundir.records import PLAN, RESULT, STATUS, PlanEntry, RunResult, RunSummary
from sslbench.system.paths import relative
from sslbench.system.safe_files import read_json

_SHOWN = 3  # warnings that the one line of an error names


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
    folders: dict[str, Path] = {}
    planned: dict[str, PlanEntry] = {}
    plans: set[str] = set()
    for place in places:
        empty = True
        try:
            for folder, names in _walk(place, found.warnings):
                empty = empty and not names & {RESULT, STATUS, PLAN}
                if RESULT in names or STATUS in names:
                    folders.setdefault(os.path.realpath(folder), folder)
                plan = folder / PLAN
                if PLAN in names and os.path.realpath(plan) not in plans:
                    plans.add(os.path.realpath(plan))
                    for run_folder, entry in _planned(plan, found.warnings).items():
                        planned[os.path.realpath(run_folder)] = entry
                        folders.setdefault(os.path.realpath(run_folder), run_folder)
        except UserError as error:
            without_runs.append(str(error))
            continue
        if empty:
            without_runs.append(f"no run in {relative(place)}")
    for key in sorted(folders):
        _read(folders[key], planned.get(key), found)
    if not found.runs and not any(run.run for run in found.missing):
        raise UserError(_nothing(places, found, without_runs))
    found.warnings += without_runs
    return found


def _planned(plan: Path, warnings: list[str]) -> dict[Path, PlanEntry]:
    try:
        entries, wrong = read_plan(plan)
    except UserError as error:
        entries, wrong = {}, [str(error)]
    warnings += wrong
    return entries


def _read(folder: Path, planned: PlanEntry | None, found: Found) -> None:
    path = folder / RESULT
    if not os.path.lexists(path):
        missing, wrong = load_status(folder, planned)
        found.warnings += wrong
        if missing:
            found.missing.append(missing)
        return
    try:
        found.runs.append(load_result(path, relative(path)))
    except UserError as error:
        found.warnings.append(f"{error}; left out: remove the run's folder, or run it again")
        # The status or the rest of the result may still say which run it is.
        missing, _ = load_status(folder, planned)
        run = (missing and missing.run) or _summary_in_result(path)
        reason = str(error).removeprefix(relative(path)).lstrip(": ")
        settings = planned.settings if planned else {}
        found.missing.append(MissingRun(folder, "damaged", f"{RESULT} {reason}", run, settings))


def _summary_in_result(path: Path) -> RunSummary | None:
    try:
        return parse(RunSummary, read_json(path), "")
    except UserError:  # the damage is among the warnings already
        return None


def _nothing(places: list[Path], found: Found, without_runs: list[str]) -> str:
    hints = [f"not finished: {', '.join(str(run) for run in found.missing if run.status != 'damaged')}"]
    hints = [hint for hint in hints if not hint.endswith(": ")]
    hints += found.warnings[:_SHOWN]
    if len(found.warnings) > _SHOWN:
        hints.append(f"and {len(found.warnings) - _SHOWN} more files that cannot be used")
    if absent := [line for line in without_runs if not line.startswith("no run in")]:
        hints += absent
    named = ", ".join(map(relative, places))
    return "; ".join(
        [f"no {RESULT} in {named}" if not found.warnings else f"nothing to report in {named}", *hints]
    )
