"""Folders, as the report shows them."""

from __future__ import annotations

import os
from pathlib import Path

from sslbench.text import printable


def relative(path: Path) -> str:
    """`path` as seen from the working directory, with forward slashes, on one line."""
    return printable(Path(os.path.relpath(path)).as_posix())
