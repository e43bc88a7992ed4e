"""When Redis may have lost data: those who restore it wait for that, and need not ask each second.

A Redis that restarts, fails over or is replaced ends its connections, and one that is flushed says
so to those who follow its keys (library/invalidation.py). Whoever waits asks now and again all the
same, because a proxy may keep the connections.
"""

from __future__ import annotations

import asyncio
import contextlib
from weakref import WeakSet


class Wakeup:
    """Wakes the one task that waits for it, now or the next time that it waits."""

    def __init__(self) -> None:
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """End the wait."""
        self._woken.set()

    async def wait(self, seconds: float) -> bool:
        """Wait for `seconds`, or until `wake` was called since the last wait: then return True."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        is_woken = self._woken.is_set()
        self._woken.clear()
        return is_woken


class Losses:
    """What one process hears of losses of its Redis."""

    def __init__(self) -> None:
        self._wakeups: WeakSet[Wakeup] = WeakSet()

    def suspect(self) -> None:
        """Tell that Redis may have lost data."""
        for each in self._wakeups:
            each.wake()

    def wakeup(self) -> Wakeup:
        """Return what is woken whenever Redis may have lost data."""
        wakeup = Wakeup()
        self._wakeups.add(wakeup)
        return wakeup
