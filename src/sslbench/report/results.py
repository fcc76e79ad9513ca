"""Finding run folders and reading their ``result.json``."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterable
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

from sslbench.errors import UserError

SCHEMA = 1
RESULT = "result.json"
STATUS = "status.json"

# Names of their own, so that the annotations below say which range a number must lie in.
Fraction = float
Positive = float
Metrics = dict[str, float]


@dataclass(frozen=True)
class RunResult:
    """One finished run: the fields of its ``result.json`` that a report uses.

    Attributes:
        folder: the run directory; not in the file.
        run_id: unique for a configuration with its seeds.
        name: for people.
        group: the configuration without its seeds.
        algorithm: as in ``algorithm=``.
        dataset: as in ``dataset=``.
        model: as in ``model=``.
        loss: the distance; None for an algorithm that has none.
        num_labels: labelled training images.
        num_valid: validation images, which pick the step.
        seed: of everything but the split.
        split_seed: of the split.
        split_hash: of the split's index arrays.
        steps: length of the run in optimizer steps.
        overrides: the Hydra overrides as typed.
        val_acc_best: the highest validation accuracy, as a fraction like all that follow.
        step_best: the step it was reached at.
        test_acc: test accuracy at `step_best`.
        test_acc_last: test accuracy after the last step.
        test_acc_median20: median test accuracy of the last 20 evaluations.
        test_ece: expected calibration error on the test set at `step_best`.
        train_seconds: wall-clock time of the training, in seconds.
        steps_per_second: throughput, in 1/s.
        device: name of the GPU, or ``cpu``.
        precision: of the forward passes, ``fp32`` or ``bf16``.
        torch: version.
        git_commit: None when the package was not run from a checkout.
        metrics_best: every number of the evaluation at `step_best`, by name; empty in older files.
        metrics_last: likewise of the last evaluation, with the method's own numbers.
    """

    folder: Path
    run_id: str
    name: str
    group: str
    algorithm: str
    dataset: str
    model: str
    loss: str | None
    num_labels: int
    num_valid: int
    seed: int
    split_seed: int
    split_hash: str
    steps: int
    overrides: tuple[str, ...]
    val_acc_best: Fraction
    step_best: int
    test_acc: Fraction
    test_acc_last: Fraction
    test_acc_median20: Fraction
    test_ece: Fraction
    train_seconds: Positive
    steps_per_second: Positive
    device: str
    precision: str
    torch: str
    git_commit: str | None
    metrics_best: Metrics = field(default_factory=dict)
    metrics_last: Metrics = field(default_factory=dict)


@dataclass(frozen=True)
class UnfinishedRun:
    """A run folder with a ``status.json`` and no ``result.json``.

    Attributes:
        folder: the run directory.
        status: ``running``, ``failed``, ``interrupted``, or ``unknown`` when the file does not say.
    """

    folder: Path
    status: str

    def __str__(self) -> str:
        return f"{relative(self.folder)} ({self.status})"


def _is_number(value: Any) -> bool:
    # bool is an int to Python, and JSON as Python writes it may hold NaN.
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


_KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "str": ("text", lambda value: isinstance(value, str)),
    "str | None": ("text or null", lambda value: value is None or isinstance(value, str)),
    "int": ("a whole number", lambda value: isinstance(value, int) and not isinstance(value, bool)),
    "Fraction": ("a number from 0 to 1", lambda value: _is_number(value) and 0 <= value <= 1),
    "Positive": ("a finite number of at least 0", lambda value: _is_number(value) and value >= 0),
    "Metrics": (
        "an object of finite numbers",
        lambda value: isinstance(value, dict) and all(map(_is_number, value.values())),
    ),
    "tuple[str, ...]": (
        "a list of text",
        lambda value: isinstance(value, list) and all(isinstance(item, str) for item in value),
    ),
}


def relative(path: Path) -> str:
    """`path` as seen from the working directory, with forward slashes."""
    return Path(os.path.relpath(path)).as_posix()


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {relative(path)}: {error.strerror}") from error
    except ValueError as error:  # neither JSON nor UTF-8
        raise UserError(f"{relative(path)} is not valid JSON ({error}): remove it or run again") from error


def load_result(path: Path) -> RunResult:
    """Read one ``result.json``; fields that a report does not use are ignored.

    Raises:
        UserError: the file cannot be read, is of another schema, or lacks a field or has a wrong value in it.
    """
    found = _read_json(path)
    if not isinstance(found, dict):
        raise UserError(f"{relative(path)} holds no JSON object: is it the result of a run?")
    if found.get("schema") != SCHEMA:
        schema = json.dumps(found.get("schema"))
        raise UserError(f"{relative(path)} has schema {schema}, this version reads schema {SCHEMA}")
    values: dict[str, Any] = {"folder": path.parent}
    for entry in fields(RunResult):
        if entry.name in values:
            continue
        if entry.name not in found:
            if entry.default_factory is not MISSING:
                continue
            raise UserError(f"{relative(path)} lacks the field '{entry.name}'")
        value = found[entry.name]
        expected, valid = _KINDS[str(entry.type)]
        if not valid(value):
            raise UserError(f"{relative(path)}: '{entry.name}' must be {expected}, not {json.dumps(value)}")
        values[entry.name] = tuple(value) if isinstance(value, list) else value
    return RunResult(**values)


def _load_status(path: Path) -> str:
    found = _read_json(path)
    status = found.get("status") if isinstance(found, dict) else None
    return status if isinstance(status, str) else "unknown"


def _refuse(error: OSError) -> None:
    raise UserError(f"cannot read {error.filename}: {error.strerror}")


def _run_folders(place: Path) -> Iterable[tuple[Path, bool]]:
    """The run folders at and below `place`, and whether each has a result."""
    if place.name == RESULT and place.is_file():
        yield place.parent, True
        return
    if not place.is_dir():
        raise UserError(f"no folder {place}")
    # A folder that cannot be listed must not pass for an empty one.
    for folder, _, names in os.walk(place, onerror=_refuse):
        if RESULT in names or STATUS in names:
            yield Path(folder), RESULT in names


def find_runs(places: Iterable[Path]) -> tuple[list[RunResult], list[UnfinishedRun]]:
    """Read every run at and below `places`, each once however often it is reached; ordered by folder.

    Args:
        places: folders, or ``result.json`` files.

    Raises:
        UserError: a place does not exist, a file is broken, or there is no ``result.json`` at all.
    """
    places = list(places)
    finished: dict[Path, RunResult] = {}
    unfinished: dict[Path, UnfinishedRun] = {}
    for place in places:
        for folder, has_result in _run_folders(place):
            key = folder.resolve()
            if key in finished or key in unfinished:
                continue
            if has_result:
                finished[key] = load_result(folder / RESULT)
            else:
                unfinished[key] = UnfinishedRun(folder, _load_status(folder / STATUS))
    missing = [unfinished[key] for key in sorted(unfinished)]
    if not finished:
        hint = f"; not finished: {', '.join(map(str, missing))}" if missing else ""
        raise UserError(f"no {RESULT} in {', '.join(map(str, places))}{hint}")
    return [finished[key] for key in sorted(finished)], missing
