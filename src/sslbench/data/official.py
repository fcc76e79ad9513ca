"""Official data files: used when present and whole, downloaded when absent, named when damaged."""

import gzip
import hashlib
import re
import socket
import struct
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from sslbench.errors import UserError

#: A file and the md5 of its right content, in hexadecimal.
Checksum = tuple[Path, str]

#: Seconds without an answer after which a download is given up: torchvision sets no limit of its own.
SILENCE = 15.0


@dataclass(frozen=True)
class Findings:
    """What is wrong with the files of a data set; nothing when both lists are empty.

    Attributes:
        missing: files that are not there.
        damaged: for each file that is there but not whole, a phrase that begins with its path.
    """

    missing: list[Path] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.missing or self.damaged)


def ensure(
    name: str,
    root: Path,
    inspect: Callable[[], Findings],
    fetch: Callable[[], object],
    fetched: Sequence[Checksum],
    download: bool,
) -> None:
    """Return when the files of the data set `name` are there and whole.

    `inspect` looks at the files below `root`. If some are missing and `download` is true, `fetch` downloads
    them, through torchvision; it writes the files `fetched` first, and half-written ones are removed when it
    fails. A damaged file is never overwritten: it may be all that its owner has.

    Raises:
        UserError: files are damaged, or absent and could not be downloaded.
    """
    try:
        found = inspect()
        if not found:
            return
    except OSError as error:
        raise UserError(f"dataset {name!r}: {short_reason(error)}; make data_root={root} readable") from error

    hindrance, remedy = "dataset.download=false", "set dataset.download=true, or put them there"
    if download:
        hindrance, remedy = "the download did not bring them", "put them there"
        try:
            root.mkdir(parents=True, exist_ok=True)
            # The runs of a sweep start together: one downloads, the others wait and find the files.
            with FileLock(root / f".{name}.lock"):
                found = inspect()
                if found.missing and not found.damaged:
                    _download(fetch, fetched)
                    found = inspect()
        except (OSError, RuntimeError, HTTPException) as error:
            hindrance = f"the download failed: {short_reason(error)}"

    if found.damaged:
        raise UserError(f"dataset {name!r}: {'; '.join(found.damaged)}")
    if found.missing:
        raise UserError(
            f"dataset {name!r}: no {', '.join(path.name for path in found.missing)} in"
            f" {found.missing[0].parent} ({hindrance}); {remedy}, or set data_root=... (or SSLBENCH_DATA)"
            f" to the folder that holds {found.missing[0].parent.relative_to(root)}"
        )


def _download(fetch: Callable[[], object], fetched: Sequence[Checksum]) -> None:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SILENCE)
    try:
        fetch()
    finally:
        socket.setdefaulttimeout(before)
        for path, md5 in fetched:
            # torchvision writes under the final name; what an interruption left would look damaged next time
            if path.is_file() and _md5(path) != md5:
                path.unlink()


def short_reason(error: BaseException) -> str:
    """The last line of an error's message, without error numbers and the wrapping of urllib."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return re.sub(r"^(<urlopen error )?(\[Errno -?\d+\] )?(.*?)>?$", r"\3", lines[-1])


def check_md5(files: Iterable[Checksum]) -> Findings:
    """Compare files with their md5."""
    found = Findings()
    for path, md5 in files:
        if not path.is_file():
            found.missing.append(path)
        elif _md5(path) != md5:
            found.damaged.append(
                f"{path} is truncated or corrupted (checksum mismatch); delete it and run again"
            )
    return found


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def check_idx(packed: Sequence[Checksum]) -> Findings:
    """Check MNIST's files, each of which may be there as ``.gz``, unpacked, or both.

    A ``.gz`` is compared with its md5; an unpacked file with the checksum inside its ``.gz``, or, where
    there is no ``.gz``, with the size that its own header tells.
    """
    alone = [raw for gz, _ in packed if (raw := gz.with_suffix("")).is_file() and not gz.is_file()]
    found = check_md5((gz, md5) for gz, md5 in packed if gz.with_suffix("") not in alone)
    for gz, _ in packed if not found.damaged else ():
        if not (raw := gz.with_suffix("")).is_file():
            continue
        try:
            content = raw.read_bytes()
            parse_idx(content)
            # the last 8 bytes of a gzip file are the CRC-32 and the length of what is packed in it
            if raw not in alone and zlib.crc32(content) != struct.unpack("<I", gz.read_bytes()[-8:-4])[0]:
                raise ValueError(f"it differs from {gz.name}")
        except ValueError as error:
            found.damaged.append(f"{raw} is truncated or corrupted ({error}); delete it and run again")
    return found


def read_idx(gz: Path) -> NDArray[np.uint8]:
    """Read a checked MNIST file, unpacked or else packed; uint8 ``[N]`` or ``[N, H, W]``."""
    raw = gz.with_suffix("")
    return parse_idx(raw.read_bytes() if raw.is_file() else gzip.decompress(gz.read_bytes()))


def parse_idx(content: bytes) -> NDArray[np.uint8]:
    """Read the IDX format (http://yann.lecun.com/exdb/mnist/) of bytes: magic number, sizes, values.

    Returns:
        uint8 array of the dimensions that the header tells: 1 of labels, 3 of images.

    Raises:
        ValueError: the header is not one of an IDX file of bytes, or the length does not match it.
    """
    if content[:4] not in (b"\0\0\x08\1", b"\0\0\x08\3"):
        raise ValueError("not an IDX file of bytes")
    shape = np.frombuffer(content, ">u4", count=content[3], offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + shape.nbytes).reshape(shape.tolist())
