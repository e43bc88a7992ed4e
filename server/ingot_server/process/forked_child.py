"""What a worker holds of a child that fork_server.py has forked."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable

from ingot_server.process.child import ChildError


class ForkedChild:
    """A child that was forked, or is being forked."""

    def __init__(self, expect_end: Callable[[ForkedChild], None]) -> None:
        loop = asyncio.get_running_loop()
        self._expect_end = expect_end
        self._pid: asyncio.Future[int] = loop.create_future()
        self._code: asyncio.Future[int] = loop.create_future()

    @property
    def pid(self) -> int:
        return self._pid.result()

    @property
    def returncode(self) -> int | None:
        return self._code.result() if self._code.done() else None

    @property
    def abandoned(self) -> bool:
        """Whether it has gone who wanted it, before it started."""
        return self._pid.cancelled()

    async def wait_until_started(self) -> None:
        """Wait until it is in a process group of its own. Raises ChildError if it never is."""
        await self._pid

    async def wait(self) -> int:
        return await asyncio.shield(self._code)

    def kill(self) -> None:
        if self.returncode is None:
            os.kill(self.pid, signal.SIGKILL)
            self._expect_end(self)

    def start(self, pid: int) -> None:
        if self.abandoned:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        else:
            self._pid.set_result(pid)

    def fail(self, message: str) -> None:
        if not self._pid.done():
            self._pid.set_exception(ChildError(message))

    def end(self, code: int) -> None:
        self.fail("it ended before it was ready")
        if not self._code.done():
            self._code.set_result(code)
