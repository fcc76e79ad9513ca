"""``metrics.jsonl``: the curves of a run, one JSON object a log point. Other trackers show the same points.

JSON has no NaN and no infinity: a number that is not finite is written as ``null``.
"""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sslbench.errors import UserError
from sslbench.system.safe_files import require_file

FILE_NAME = "metrics.jsonl"
_TAIL_BYTES = 4096


def to_line(point: Mapping[str, float | None]) -> str:
    """The line of a log point; what a curve is drawn over comes first."""
    keys = dict.fromkeys(key for key in ("step", "images_seen", *point) if key in point)
    finite = {
        key: value if (value := point[key]) is not None and math.isfinite(value) else None for key in keys
    }
    return json.dumps(finite, allow_nan=False) + "\n"


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The log points of a ``metrics.jsonl``, in order; a number that was not finite is ``None``.

    A last line that was torn by a kill is left out.

    Raises:
        UserError: it is no ordinary file, or a line before the last is not a log point.
    """
    require_file(path)
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    points: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        point = _point(line)
        if point is not None:
            points.append(point)
        elif number < len(lines):
            raise UserError(f"{path}, line {number}: not a log point; remove the line, or the run's folder")
    return points


def _point(line: str | bytes) -> dict[str, Any] | None:
    """The log point of a line; None if it is none, because it was torn or somebody else wrote it."""
    try:
        point = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(point, dict) or not all(map(_is_number, point.values())):
        return None
    return point if isinstance(point.get("step"), int) else None


def _is_number(value: object) -> bool:
    if value is None or isinstance(value, float):
        return True
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def latest(path: Path) -> dict[str, Any]:
    """The newest value of each number near the end of a ``metrics.jsonl``; empty where there is none.

    Reads a few kilobytes, however long the file is.
    """
    try:
        require_file(path)
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            tail = file.read()
    except (OSError, UserError):
        return {}
    found: dict[str, Any] = {}
    for line in tail.splitlines():
        found |= _point(line) or {}  # none where it is cut off in front, or being written
    return found
