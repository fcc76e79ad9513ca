"""Text from files and folders, made fit to be shown."""

from __future__ import annotations

import os
from pathlib import Path

from sslbench.errors import printable

__all__ = ["printable", "relative", "short"]


def short(text: str, length: int) -> str:
    """`text`, cut in the middle to at most `length` characters (at least 3) if it is longer."""
    if len(text) <= length:
        return text
    head = (length - 1) // 2
    return f"{text[:head]}…{text[len(text) - (length - 1 - head) :]}"


def relative(path: Path) -> str:
    """`path` as seen from the working directory, with forward slashes, on one line."""
    return printable(Path(os.path.relpath(path)).as_posix())
