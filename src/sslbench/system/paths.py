"""Paths: whether something is there, and how they are shown."""

from __future__ import annotations

import os
from pathlib import Path

from sslbench.system.text import escape_control


def exists(path: Path) -> bool:
    """Whether there is such a file or folder; False where the name is too long or a folder is closed."""
    return os.path.exists(path)  # noqa: PTH110 - Path.exists raises there


def relative(path: Path) -> str:
    """`path` as seen from the working directory, with forward slashes, on one line."""
    try:
        return escape_control(Path(os.path.relpath(path)).as_posix())
    except FileNotFoundError:  # the working directory is gone
        return escape_control(path.as_posix())
