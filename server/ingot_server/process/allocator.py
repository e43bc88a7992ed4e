"""Settings of glibc's allocator for a process with many threads and large buffers."""

from __future__ import annotations

import ctypes
import sys
from typing import Final

# The parameters of mallopt(3), as <malloc.h> numbers them.
_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
_ARENA_MAX: Final = -8

_LARGE_BYTES: Final = 1 << 20
# What an arena keeps at its end. A download gets and frees a few buffers of 256 KiB again and
# again; with the default of 128 KiB each of them is returned, and costs 64 page faults to get back.
_SPARE_BYTES: Final = 4 << 20
_ARENAS: Final = 2


def return_large_buffers() -> None:
    """Make the process return large buffers to the system as soon as they are freed.

    By default glibc gives each thread an arena, and keeps blocks of up to 32 MiB in it once one of
    that size was freed. With 16 jobs at once that took half as much memory again. The call does
    nothing if the C library does not have these parameters.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_TRIM_THRESHOLD, _SPARE_BYTES)
        mallopt(_ARENA_MAX, _ARENAS)
