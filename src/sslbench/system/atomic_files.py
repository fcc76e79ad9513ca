"""Files that are whole or absent: written under another name, synced, then renamed."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


def write_atomically(path: Path, write: Callable[[Path], object], previous: Path | None = None) -> None:
    """Let `write` fill a temporary file beside `path`, sync it to the disk and give it its final name.

    What `path` held before is kept as `previous`. A kill at the wrong moment may leave that alone.

    Raises:
        OSError: the folder is not writable or the disk is full; nothing is left under either name but
            what `path` held before.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        write(part)
        sync_file(part)
        if previous is not None and path.exists():
            path.replace(previous)
        part.replace(path)
        sync_folder(path.parent)
    finally:
        part.unlink(missing_ok=True)


def sync_file(path: Path) -> None:
    """Wait until the content of `path` is on the disk."""
    with path.open("rb") as written:
        os.fsync(written.fileno())


def sync_folder(folder: Path) -> None:
    """Let the names in `folder` reach the disk, so that a power cut does not undo a renaming."""
    with suppress(OSError):  # some network file systems have no such call; the content is safe anyway
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_text_atomically(path: Path, text: str) -> None:
    """`write_atomically` for text in UTF-8."""
    write_atomically(path, lambda part: part.write_text(text, encoding="utf-8"))
