"""A program that runs as a child of a worker: limited, watched, and ended with its user.

What holds for every child:

- `launch.py` starts it with exec, or `fork_server.py` forks it from a process that was started so:
  in a session and process group of its own, without a shell. Its environment is only what is passed
  in, and its only files are its three standard streams.
- The kernel limits its memory, CPU time and file sizes, and kills it when its worker dies.
- It is confined to its job's files and, if it has a network at all, to the guard (confinement.py).
- `close` kills the whole group with SIGKILL, which no process can ignore, and leaves no zombie and
  no open pipe. The end of `async with` calls it, so also cancellation and timeouts do.

Standard input and output are the two directions of one socket pair: typed arguments go in, and
progress comes out as lines of JSON. Of standard error the last 64 KiB are kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol, Self

from ingot_server.foreign_json import parse_json
from ingot_server.metrics.definitions import CHILD_PROCESSES
from ingot_server.process.confinement import Confinement
from ingot_server.process.launch import launch_command
from ingot_server.process.limits import Limits
from ingot_server.tracing import scopes

ENVIRONMENT: Final = {"LANG": "C.UTF-8"}
_LINE_BYTES: Final = 4 << 20
_STDERR_BYTES: Final = 64 << 10
_STDERR_SECONDS: Final = 1.0


class ChildError(Exception):
    """A child could not be started, or what it wrote is not a message."""


class Spawned(Protocol):
    """A process that was started."""

    @property
    def pid(self) -> int: ...

    @property
    def returncode(self) -> int | None:
        """Its exit code, or minus the signal that killed it; None while it runs."""

    async def wait(self) -> int:
        """Wait until it has ended; return the `returncode`."""

    def kill(self) -> None:
        """Kill it with SIGKILL. Raises ProcessLookupError if it has ended."""


class ChildProcess:
    """A running program; `start` or `spawned` makes it, `close` or the end of `async with` ends it.

    It belongs to the event loop that started it, and dies with that loop's thread: Linux sends the
    parent-death signal when the thread that started a child ends.
    """

    def __init__(
        self,
        process: Spawned,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        stderr: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        name: str,
    ) -> None:
        self.pid = process.pid
        parent = scopes.parent()
        self._span = parent.child(name, process.pid) if parent is not None else None
        self._process = process
        self._reader = reader
        self._writer = writer
        self._stderr_writer = stderr[1]
        self._stderr = bytearray()
        self._killed = False
        self._draining = asyncio.create_task(self._drain_stderr(stderr[0]))
        CHILD_PROCESSES.add()

    @classmethod
    async def start(
        cls,
        program: str,
        *arguments: str,
        limits: Limits,
        environment: Mapping[str, str] | None = None,
        confinement: Confinement | None = None,
        name: str = "",
    ) -> Self:
        """Start `program`, an absolute path. Raises ChildError if the system refuses.

        `name` is what traces call it, by default the name of the file. Without `confinement` the
        program confines itself, before it reads what it does not trust.
        """

        async def execute(streams: int, errors: int) -> Spawned:
            return await asyncio.create_subprocess_exec(
                *launch_command(
                    program, *arguments, rlimits=limits.rlimits(), confinement=confinement
                ),
                stdin=streams,
                stdout=streams,
                stderr=errors,
                env={**ENVIRONMENT, **(environment or {})},
                start_new_session=True,
            )

        return await cls.spawned(execute, name or Path(program).name)

    @classmethod
    async def spawned(cls, spawn: Callable[[int, int], Awaitable[Spawned]], name: str) -> Self:
        """Return the child that `spawn` starts; traces call it `name`.

        `spawn` gets the descriptors of its standard input and output, which are one, and of its
        standard error. Raises ChildError if it raises OSError, or if there are no descriptors.
        """
        try:
            return await cls._spawned(spawn, name)
        except OSError as error:
            raise ChildError(f"it could not be started: {error.strerror}") from error

    @classmethod
    async def _spawned(cls, spawn: Callable[[int, int], Awaitable[Spawned]], name: str) -> Self:
        with contextlib.ExitStack() as inherited, contextlib.ExitStack() as kept:
            ours, theirs = socket.socketpair()
            kept.callback(ours.close)
            inherited.enter_context(theirs)
            errors, their_errors = socket.socketpair()
            kept.callback(errors.close)
            inherited.enter_context(their_errors)
            reader, writer = await asyncio.open_connection(sock=ours, limit=_LINE_BYTES)
            kept.callback(writer.close)
            stderr = await asyncio.open_connection(sock=errors)
            kept.callback(stderr[1].close)
            process = await spawn(theirs.fileno(), their_errors.fileno())
            kept.pop_all()
        return cls(process, reader, writer, stderr, name)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def running(self) -> bool:
        return self._process.returncode is None

    @property
    def stderr(self) -> str:
        """The last 64 KiB that it has written to standard error so far."""
        return self._stderr.decode(errors="replace")

    async def send_message(self, message: Mapping[str, object]) -> None:
        """Write `message` as one line of JSON. If the child is dead, the message is dropped."""
        self._writer.write(json.dumps(message).encode() + b"\n")
        with contextlib.suppress(ConnectionError):
            await self._writer.drain()

    async def receive_message(self) -> dict[str, Any] | None:
        """Return its next line, a JSON object; None once it has closed its output.

        Raises ChildError for a line that is not a JSON object, or is longer than 4 MiB.
        """
        line = await self.read_line()
        if not line:
            return None
        try:
            message = parse_json(line)
        except ValueError as error:
            raise ChildError("it wrote a line that is not JSON") from error
        if not isinstance(message, dict):
            raise ChildError("it wrote a line that is not a JSON object")
        return message

    async def read_line(self) -> bytes:
        """Return its next line with the line feed; empty once it has closed its output.

        Raises ChildError for a line that is longer than 4 MiB.
        """
        try:
            return await self._reader.readline()
        except ConnectionError:
            return b""  # It died with our message unread.
        except ValueError as error:
            raise ChildError("it wrote a line of more than 4 MiB") from error

    async def read_output(self, limit: int) -> bytes:
        """Return 1 to `limit` bytes of its output, when there are any; empty at the end."""
        try:
            return await self._reader.read(limit)
        except ConnectionError:
            return b""

    async def write_input(self, data: bytes) -> bool:
        """Write `data` to its standard input, waiting until most of it was read.

        Returns False once the child does not read any more.
        """
        self._writer.write(data)
        try:
            await self._writer.drain()
        except ConnectionError:
            return False
        return not self._writer.is_closing()

    def close_input(self) -> None:
        """Send the end of its standard input."""
        with contextlib.suppress(OSError):
            self._writer.write_eof()

    async def final_stderr(self) -> str:
        """Return the end of its standard error, once it and its descendants have ended.

        If a descendant goes on, returns after a second what there is by then.
        """
        await asyncio.wait([self._draining], timeout=_STDERR_SECONDS)
        return self.stderr

    async def wait(self) -> int:
        """Wait until it ends; return its exit code, or minus the signal that killed it."""
        return await self._process.wait()

    async def close(self) -> None:
        """Kill its group, reap it and close its pipes. Safe to repeat and to cancel."""
        if not self._killed:
            self._killed = True  # Later the number may belong to another group.
            CHILD_PROCESSES.add(amount=-1)
            if self._span is not None:
                self._span.end_child(self._process.returncode)
                self._span.end()
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
                self._process.kill()
        self._writer.close()
        self._stderr_writer.close()
        self._draining.cancel()
        await asyncio.wait([self._draining])
        await self._process.wait()

    async def _drain_stderr(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(_STDERR_BYTES):
                self._stderr += data
                del self._stderr[:-_STDERR_BYTES]


def describe_exit(code: int) -> str:
    """Return in words how a process ended whose `ChildProcess.wait` returned `code`."""
    return f"exited with code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"
