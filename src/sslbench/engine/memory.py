"""How the process keeps the memory that a step frees."""

from __future__ import annotations

import ctypes

#: Parameters of glibc's mallopt (malloc.h).
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGE = 2**30


def keep_freed_memory() -> None:
    """Let the C library keep what is freed for the next step, for the rest of the process.

    By default glibc hands large blocks back to the system, and gets them again page by page: in a step of VAT
    with the MLP on a CPU, a quarter of the time. The process holds its peak from then on, which it reaches in
    every step anyway. Another C library or allocator is left as it is.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version"):
        library.mallopt(_TRIM_THRESHOLD, _LARGE)
        library.mallopt(_MMAP_THRESHOLD, _LARGE)
