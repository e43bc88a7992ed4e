"""A child process that is started, with its imports done, before a job needs it.

Each process serves one job. Its start-up time is spent before the job arrives. Before `start` and
after `close`, every job gets a process that is started for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from ingot_server.process.child import ChildError, ChildProcess

logger = logging.getLogger(__name__)


class PrewarmedProcess:
    """One process that is kept ready between `start` and `close`."""

    def __init__(
        self,
        launch: Callable[[], Awaitable[ChildProcess]],
        *,
        purpose: str,
        version: Callable[[], object] = lambda: None,
    ) -> None:
        """Keep a process ready that `launch` starts.

        `version` names the program that `launch` would start now. A ready process of another
        version is not used. `purpose` is for the log.
        """
        self._launch = launch
        self._purpose = purpose
        self._version = version
        self._started = False
        self._ready: tuple[object, ChildProcess] | None = None
        self._prewarming: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start a process; if that is impossible now, log it and return."""
        self._started = True
        await self._prewarm()

    async def close(self) -> None:
        """End the process that is ready. Processes that were taken belong to their takers."""
        self._started = False
        if self._prewarming is not None:
            self._prewarming.cancel()
            await asyncio.wait([self._prewarming])
        ready, self._ready = self._ready, None
        if ready is not None:
            await ready[1].close()

    async def take_process(self) -> ChildProcess:
        """Return the process that is ready, else a new one.

        Raises ChildError when no process can be started.
        """
        ready, self._ready = self._ready, None
        if ready is not None:
            version, child = ready
            if child.running and version == self._version():
                return child
            await child.close()
        return await self._launch()

    def prewarm_next(self) -> None:
        """Start the next process in the background, unless one is ready or being started."""
        idle = self._prewarming is None or self._prewarming.done()
        if self._started and self._ready is None and idle:
            self._prewarming = asyncio.create_task(self._prewarm())

    async def _prewarm(self) -> None:
        version = self._version()
        try:
            child = await self._launch()
        except ChildError as error:
            logger.warning("no process could be started in advance: %s: %s", self._purpose, error)
            return
        if self._started and self._ready is None:
            self._ready = version, child
        else:
            await child.close()
