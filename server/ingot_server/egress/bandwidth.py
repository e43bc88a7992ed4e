"""Bandwidth limits: how many bytes arrive in a second, over all connections that share a limit."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

# After a pause so much may come at once, so that a limit is reached whatever the pauses are.
_BURST_SECONDS: Final = 0.1


class Bandwidth:
    """A limit in bytes per second, for the connections of one event loop; 0 means no limit."""

    def __init__(
        self, bytes_per_second: int, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate = bytes_per_second
        self._clock = clock
        self._next = clock()

    def __bool__(self) -> bool:
        return self._rate > 0

    def take(self, size: int) -> float:
        """Count bytes that have arrived; return for how many seconds their connection must pause.

        Connections wait behind each other, so that they share the limit evenly.
        """
        if not self._rate:
            return 0.0
        now = self._clock()
        self._next = max(self._next, now - _BURST_SECONDS) + size / self._rate
        return max(0.0, self._next - now)
