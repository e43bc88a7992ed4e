"""A Redis with a replica. A link decides which of them is the primary."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TextIO

import redis.asyncio
import redis.exceptions

from ingot_server.asyncio_tasks import cancel_and_wait
from ingot_server.local.ports import Ports
from ingot_server.process.supervisor import Program, SupervisedProgram
from tests.chaos.link import Link, linked

HOST = "127.0.0.1"
_CHECK_SECONDS = 0.3
_ERRORS = (redis.exceptions.RedisError, OSError, asyncio.TimeoutError)


class RedisPair:
    """Two servers on one link; made by `redis_pair`. After a failover they change places."""

    def __init__(self, programs: dict[int, SupervisedProgram], link: Link) -> None:
        self.link = link
        self._programs = programs
        self.primary, self.replica = programs
        self._is_detached = False

    @property
    def url(self) -> str:
        """The URL that Ingot uses."""
        return f"redis://{self.link.address}/0"

    @property
    def direct_url(self) -> str:
        """The URL of the primary, past the link."""
        return f"redis://{HOST}:{self.primary}/0"

    @property
    def pid(self) -> int | None:
        """The process id of the primary, None while it does not run."""
        return self._programs[self.primary].pid

    async def flush(self) -> bool:
        """Remove everything from the primary, and so from the replica; False if it is away."""
        return await _command(self.primary, "FLUSHALL") is not None

    async def fail_over(self, seconds_behind: float) -> bool:
        """Lose the primary; the replica that takes over lacks the last `seconds_behind`.

        Returns False if there is no replica that follows.
        """
        if self._is_detached or not await self._replica_follows():
            return False
        self._is_detached = True
        try:
            if not await _command(self.replica, "REPLICAOF", "NO", "ONE"):
                return False
            await asyncio.sleep(seconds_behind)
            self.primary, self.replica = self.replica, self.primary
            self.link.lead_to(self.primary)
            return True
        finally:
            self._is_detached = False

    async def _replica_follows(self) -> bool:
        role = await _command(self.replica, "ROLE")
        return isinstance(role, list) and role[0] == b"slave" and role[3] == b"connected"

    async def keep_replicating(self) -> None:
        """Make the replica follow the primary, also after a restart; until cancelled."""
        while True:
            if not self._is_detached:
                role = await _command(self.replica, "ROLE")
                if isinstance(role, list) and role[0] != b"slave":
                    await _command(self.replica, "REPLICAOF", HOST, str(self.primary))
            await asyncio.sleep(_CHECK_SECONDS)


async def _command(port: int, *words: str) -> object:
    """Return the answer of a server, None if it does not answer."""
    with contextlib.suppress(*_ERRORS):
        async with redis.asyncio.Redis(port=port, socket_timeout=2) as connection:
            return await connection.execute_command(*words)  # type: ignore[no-untyped-call]
    return None


def _program(executable: Path, directory: Path, port: int) -> Program:
    directory.mkdir()
    return Program(
        name=f"redis {port}",
        arguments=(
            str(executable),
            *("--port", str(port), "--bind", HOST, "--dir", str(directory)),
            *("--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
            *("--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0"),
            *("--set-proc-title", "no"),
        ),
        ready=re.compile("ready to accept connections", re.IGNORECASE),
    )


@asynccontextmanager
async def redis_pair(
    executable: Path, directory: Path, log: TextIO = sys.stderr
) -> AsyncIterator[RedisPair]:
    """Two servers that are restarted when they die."""
    async with AsyncExitStack() as stack:
        ports = stack.enter_context(Ports())
        programs = {}
        for name in ("first", "second"):
            port = ports.reserve(HOST)
            program = SupervisedProgram(_program(executable, directory / name, port), log=log)
            programs[port] = program
            program.start()
            stack.push_async_callback(program.stop, 1.0)
        for program in programs.values():
            await program.wait_until_ready()
        link = await stack.enter_async_context(linked(next(iter(programs))))
        pair = RedisPair(programs, link)
        following = asyncio.create_task(pair.keep_replicating())
        stack.push_async_callback(cancel_and_wait, following)
        yield pair
