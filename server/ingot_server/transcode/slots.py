"""How many conversions use a worker's processors at the same time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


class Slots:
    """A number of slots. A conversion takes some of them; first come, first served."""

    def __init__(self, count: int) -> None:
        self._count = self._free = max(1, count)
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def free(self) -> int:
        """The slots that can be acquired now without waiting."""
        return 0 if self._waiting else self._free

    @asynccontextmanager
    async def acquire(
        self, cost: int, on_wait: Callable[[int], None] = lambda _: None
    ) -> AsyncIterator[None]:
        """Wait for `cost` slots and hold them; a larger number than there are means all.

        If they are not free, `on_wait` is called with the number of those that wait already.
        """
        cost = min(max(1, cost), self._count)
        granted = asyncio.get_running_loop().create_future()
        self._waiting.append((cost, granted))
        self._grant()
        try:
            if not granted.done():
                on_wait(len(self._waiting) - 1)
            await granted
        except asyncio.CancelledError:
            if not granted.cancelled():
                self._free += cost
            elif (cost, granted) in self._waiting:
                self._waiting.remove((cost, granted))
            self._grant()
            raise
        try:
            yield
        finally:
            self._free += cost
            self._grant()

    def _grant(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._free:
            cost, granted = self._waiting.popleft()
            if granted.cancelled():
                continue  # Its task is cancelled, but has not run since.
            self._free -= cost
            granted.set_result(None)
