"""A child process that is started, with its imports done, before somebody needs it.

It serves once, like every other; what its start takes is paid while nobody waits. Until `start`,
and after `close`, each taker gets a process that is started for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from ingot_server.process.child import Child, ChildError

logger = logging.getLogger(__name__)


class PrewarmedProcess:
    """Keeps one process ready; `start` and `close` frame its life."""

    def __init__(
        self,
        launch: Callable[[], Awaitable[Child]],
        *,
        purpose: str,
        version: Callable[[], object] = lambda: None,
    ) -> None:
        """`launch` starts a process, of the program that `version` names at that moment.

        One that waits is not used when that has changed. `purpose` is for the log.
        """
        self._launch = launch
        self._purpose = purpose
        self._version = version
        self._started = False
        self._waiting: tuple[object, Child] | None = None
        self._refilling: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Makes a process ready. Raises nothing when that cannot be done now."""
        self._started = True
        await self._refill()

    async def close(self) -> None:
        """Ends what waits. Those that were taken belong to their takers."""
        self._started = False
        if self._refilling is not None:
            self._refilling.cancel()
            await asyncio.wait([self._refilling])
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            await waiting[1].close()

    async def take(self) -> Child:
        """The process that waits, else a new one. Raises ChildError when none can be had."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            version, child = waiting
            if child.running and version == self._version():
                return child
            await child.close()
        return await self._launch()

    def refill(self) -> None:
        """Has the next process made ready in the background, unless one is."""
        idle = self._refilling is None or self._refilling.done()
        if self._started and self._waiting is None and idle:
            self._refilling = asyncio.create_task(self._refill())

    async def _refill(self) -> None:
        version = self._version()
        try:
            child = await self._launch()
        except ChildError as error:
            logger.warning("no process could be made ready for %s: %s", self._purpose, error)
            return
        if self._started and self._waiting is None:
            self._waiting = version, child
        else:
            await child.close()
