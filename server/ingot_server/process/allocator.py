"""Keeps glibc's allocator from holding on to the large buffers of a worker's many threads."""

from __future__ import annotations

import ctypes
import sys
from typing import Final

# The parameters of mallopt(3), as <malloc.h> numbers them.
_MMAP_THRESHOLD: Final = -3
_ARENA_MAX: Final = -8

_LARGE_BYTES: Final = 1 << 20
_ARENAS: Final = 2


def give_large_buffers_back() -> None:
    """Has what is freed of parts and chunks leave the process at once.

    By default glibc gives each thread an arena, and keeps blocks of up to 32 MiB in it once one of
    that size was freed. With 16 jobs at once that took half as much memory again. Does nothing
    where the C library has no such parameters.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGE_BYTES)
        mallopt(_ARENA_MAX, _ARENAS)
