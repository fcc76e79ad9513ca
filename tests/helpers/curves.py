"""The curves of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The log points of a ``metrics.jsonl``, in order."""
    return [json.loads(line) for line in path.read_text().splitlines()]
