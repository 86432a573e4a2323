"""Memory that the C library keeps from one step to the next."""

import contextlib
import ctypes

KEPT_BYTES = 512 << 20
"""Freed memory that stays with the process; a step at 64 x 128² needs about 60 MB."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_LARGEST_MMAP_THRESHOLD = 32 << 20  # glibc refuses more


def keep_freed_memory() -> bool:
    """Tell the allocator not to hand freed memory back at once; False if it can't.

    glibc returns a step's tensors to the system when they are freed, and the next step
    faults every page in again: 2,200 faults and 6 of 16 ms for a step of 64 patterns
    of 64 x 64. For the whole process; other C libraries are left alone.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        kept = mallopt(_TRIM_THRESHOLD, KEPT_BYTES)
        return bool(kept and mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD))
    return False
