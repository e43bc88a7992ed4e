"""How much a worker's processor is used for at once."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Slots:
    """A number of places that work takes some of. First come, first served: nobody is overtaken."""

    def __init__(self, count: int) -> None:
        self._count = self._free = max(1, count)
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @property
    def free(self) -> int:
        """Places that somebody who comes now gets without waiting."""
        return 0 if self._waiting else self._free

    @asynccontextmanager
    async def take(self, cost: int) -> AsyncIterator[None]:
        """Waits for `cost` places and holds them; more than there are means all."""
        cost = min(max(1, cost), self._count)
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((cost, turn))
        self._advance()
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self._free += cost
            elif (cost, turn) in self._waiting:
                self._waiting.remove((cost, turn))
            self._advance()
            raise
        try:
            yield
        finally:
            self._free += cost
            self._advance()

    def _advance(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._free:
            cost, turn = self._waiting.popleft()
            if turn.cancelled():
                continue  # Whoever waited for it has not run since.
            self._free -= cost
            turn.set_result(None)
