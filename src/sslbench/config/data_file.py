"""The file of one's own data: its path as a configuration saves it, and its content, by which it counts."""

import hashlib
import os
import stat
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from sslbench.errors import UserError


def absolute(path: str) -> str:
    """`path` without ``~`` and ``..``, so that a later evaluation finds it from any folder.

    A link in the last part stays: it may be the name by which people know the data.
    """
    given = Path(os.path.expanduser(path))  # noqa: PTH111 - Path.expanduser raises where there is no home
    try:
        return str(given.resolve() if given.name == ".." else given.parent.resolve() / given.name)
    except (OSError, RuntimeError, ValueError):  # links in a circle, or a name that no file can have
        return str(given.absolute())


def content_hash(path: str) -> str | None:
    """The SHA-256 of a file's content, in hexadecimal; None where there is no ordinary file to read.

    A file is read once a process, unless its size or time of change differs: a sweep plans thousands of runs.
    """
    version = _version(path)
    try:
        return _sha256(path, version) if version else None
    except OSError:  # the loader of the data describes it
        return None


def num_classes(path: str) -> int:
    """The number of classes in an ``.npz`` file, which is read once, as in `content_hash`."""
    return _num_classes(path, _version(path))


def require_same_content(dataset: Mapping[str, Any]) -> None:
    """Refuse a data file whose content is not the one whose hash the configuration holds."""
    path, expected = dataset.get("path"), dataset.get("sha256")
    if not isinstance(path, str) or not isinstance(expected, str):
        return
    found = content_hash(path)
    if found and found != expected:
        raise UserError(
            f"dataset.path={path} is not the file that this run began with (its SHA-256 begins with "
            f"{found[:8]}, not {expected[:8]}): put that file back, or start another run"
        )


def _version(path: str) -> tuple[int, int] | None:
    """Size and time of change of an ordinary file; None where there is none."""
    try:
        found = Path(path).stat()
    except (OSError, ValueError):  # absent, in a closed folder, or with a name that no file can have
        return None
    return (found.st_size, found.st_mtime_ns) if stat.S_ISREG(found.st_mode) else None


@cache
def _sha256(path: str, version: tuple[int, int]) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def _num_classes(path: str, version: tuple[int, int] | None) -> int:
    from sslbench.data.sources import npz

    return npz(path).num_classes
