"""Taking turns at a host: how many connections to it are open, or jobs at it run, at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass


@dataclass(slots=True)
class _Gate:
    semaphore: asyncio.Semaphore
    users: int = 0


class HostLimits:
    """At most `limit` turns at once for each host, first come first served; 0 means no limit.

    A gate exists while somebody holds or awaits a turn at its host, so hosts do not pile up.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._gates: dict[str, _Gate] = {}

    @asynccontextmanager
    async def acquire(self, host: str) -> AsyncIterator[None]:
        """Holds a turn for the body; who is cancelled while waiting leaves the queue."""
        if not self._limit:
            yield
            return
        gate = self._gates.setdefault(host, _Gate(asyncio.Semaphore(self._limit)))
        gate.users += 1
        try:
            async with gate.semaphore:
                yield
        finally:
            gate.users -= 1
            if not gate.users:
                del self._gates[host]
