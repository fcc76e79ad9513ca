"""Folders, as the report shows them."""

from __future__ import annotations

import os
from pathlib import Path

from sslbench.system.text import printable


def relative(path: Path) -> str:
    """`path` as seen from the working directory, with forward slashes, on one line."""
    try:
        return printable(Path(os.path.relpath(path)).as_posix())
    except FileNotFoundError:  # the working directory is gone
        return printable(path.as_posix())
