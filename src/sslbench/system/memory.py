"""Keeping the memory that a training step frees."""

import ctypes
from typing import Any

#: Parameters of glibc's mallopt (malloc.h).
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
#: In bytes. glibc before 2.35 refuses a threshold for mmap above the second.
_SIZES = (2**30, 2**25)


def keep_freed_memory(library: Any = None) -> None:
    """Let glibc keep freed memory for the next step, for the rest of the process.

    By default glibc returns large blocks to the system and gets them again page by page. That takes a quarter
    of a step of VAT with the MLP on a CPU. Call this once the data are ready: it returns what was freed until
    then, and from then on the process keeps its peak, which it reaches in every step. Another C library is
    left as it is.
    """
    library = library or ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return
    library.malloc_trim(0)
    # Each call stops glibc from adapting both thresholds by itself: one call without the other is worse.
    if any(library.mallopt(_MMAP_THRESHOLD, size) for size in _SIZES):
        library.mallopt(_TRIM_THRESHOLD, _SIZES[0])
