"""Folders, as the report shows them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from sslbench.system.text import printable

_base: ContextVar[Path | None] = ContextVar("base", default=None)


@contextmanager
def seen_from(folder: Path) -> Iterator[None]:
    """Have `relative` show paths as seen from `folder`: that of the file which they are written into."""
    token = _base.set(folder.absolute())
    try:
        yield
    finally:
        _base.reset(token)


def relative(path: Path) -> str:
    """`path` as seen from the working directory or `seen_from`, with forward slashes, on one line."""
    try:
        return printable(Path(os.path.relpath(path, _base.get())).as_posix())
    except FileNotFoundError:  # the working directory is gone
        return printable(path.as_posix())
