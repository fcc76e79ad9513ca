"""How the process keeps the memory that a step frees."""

from __future__ import annotations

import ctypes
from typing import Any

#: Parameters of glibc's mallopt (malloc.h).
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
#: In bytes. glibc before 2.35 refuses a threshold for mmap above the second.
_SIZES = (2**30, 2**25)


def keep_freed_memory(library: Any = None) -> None:
    """Let the C library keep what is freed for the next step, for the rest of the process.

    By default glibc hands large blocks back to the system, and gets them again page by page: in a step of VAT
    with the MLP on a CPU, a quarter of the time. To be called once the data are ready: what was freed until
    then is handed back, and from then on the process holds its peak, which it reaches in every step.
    Another C library or allocator is left as it is.

    Args:
        library: the C library; that of the process by default.
    """
    library = library or ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return
    library.malloc_trim(0)
    # Each call keeps glibc from adapting the thresholds by itself, so that one without the other is worse.
    if any(library.mallopt(_MMAP_THRESHOLD, size) for size in _SIZES):
        library.mallopt(_TRIM_THRESHOLD, _SIZES[0])
