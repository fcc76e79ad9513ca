"""Paths: whether something is there, and how they are shown."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from sslbench.system.text import escape_control


def exists(path: Path) -> bool:
    """Whether there is such a file or folder; False where the name is too long or a folder is closed."""
    return os.path.exists(path)  # noqa: PTH110 - Path.exists raises there


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
        return escape_control(Path(os.path.relpath(path, _base.get())).as_posix())
    except FileNotFoundError:  # the working directory is gone
        return escape_control(path.as_posix())
