"""``metrics.jsonl``: the curves of a run, one JSON object a log point. Other trackers show the same points.

JSON has no NaN and no infinity: a number that is not finite is written as ``null``.
"""

import json
import math
import os
from collections.abc import Mapping
from contextlib import suppress
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
        with suppress(ValueError, TypeError):  # where it is cut off in front, or being written
            found |= json.loads(line)
    return found
