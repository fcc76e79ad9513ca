"""Folders, as the report shows them."""

from __future__ import annotations

import os
from pathlib import Path

from sslbench.system.text import escape_control


def relative(path: Path) -> str:
    """`path` as seen from the working directory, with forward slashes, on one line."""
    try:
        return escape_control(Path(os.path.relpath(path)).as_posix())
    except FileNotFoundError:  # the working directory is gone
        return escape_control(path.as_posix())
