"""Runs another program below a worker: bounded, watched, and gone when its user is done with it.

What holds for every child:

- It is started with exec through `launch.py`, in a session and process group of its own, without a
  shell, with no environment but what is passed in and no file but its three standard streams.
- Its memory, CPU time and file sizes are limited by the kernel, and it dies with its worker.
- `close` kills the whole group with SIGKILL, which nothing can ignore, and leaves no zombie and no
  open pipe. It runs at the end of `async with`, so also on cancellation and timeout.

Standard input and output are the two directions of one socket pair: typed arguments go in and
progress comes out as lines of JSON. Of standard error the last 64 KiB are kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Self

_LAUNCHER: Final = str(Path(__file__).with_name("launch.py"))
_ENVIRONMENT: Final = {"LANG": "C.UTF-8"}
_LINE_BYTES: Final = 4 << 20
_STDERR_BYTES: Final = 64 << 10
_LAST_WORDS_SECONDS: Final = 1.0


class ChildError(Exception):
    """A child ended before it answered, or what it wrote is no answer."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one child may use.

    Past `cpu` it is killed by SIGXCPU; past `memory_bytes` its allocations fail (address space is
    what counts, so leave room above what is resident), past `file_bytes` its writes.
    """

    memory_bytes: int
    cpu: timedelta
    file_bytes: int = 0
    open_files: int = 64

    def dumps(self) -> str:
        return json.dumps(
            {
                "RLIMIT_AS": self.memory_bytes,
                "RLIMIT_CPU": max(1, round(self.cpu.total_seconds())),
                "RLIMIT_FSIZE": self.file_bytes,
                "RLIMIT_NOFILE": self.open_files,
                "RLIMIT_CORE": 0,
            }
        )


class Child:
    """A running program; made by `start`, ended by `close` or the end of `async with`.

    It belongs to the event loop it was started on, and dies with that loop's thread (Linux sends
    the parent-death signal when the thread that started a child ends).
    """

    def __init__(
        self,
        process: Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        stderr: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self.pid = process.pid
        self._process = process
        self._reader = reader
        self._writer = writer
        self._stderr_writer = stderr[1]
        self._stderr = bytearray()
        self._killed = False
        self._draining = asyncio.create_task(self._drain(stderr[0]))

    @classmethod
    async def start(
        cls,
        program: str,
        *arguments: str,
        limits: Limits,
        environment: Mapping[str, str] | None = None,
    ) -> Self:
        """Starts `program`, an absolute path. Raises ChildError when no process can be had."""
        try:
            return await cls._start(program, *arguments, limits=limits, environment=environment)
        except OSError as error:
            raise ChildError(f"it could not be started: {error.strerror}") from error

    @classmethod
    async def _start(
        cls,
        program: str,
        *arguments: str,
        limits: Limits,
        environment: Mapping[str, str] | None,
    ) -> Self:
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
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", _LAUNCHER),
                *(str(os.getpid()), limits.dumps(), program, *arguments),
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=their_errors.fileno(),
                env={**_ENVIRONMENT, **(environment or {})},
                start_new_session=True,
            )
            kept.pop_all()
        return cls(process, reader, writer, stderr)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def running(self) -> bool:
        return self._process.returncode is None

    @property
    def stderr(self) -> str:
        """The end of what it wrote to standard error so far."""
        return self._stderr.decode(errors="replace")

    async def send(self, message: Mapping[str, object]) -> None:
        """Writes one line of JSON. What a dead child does not read is not an error here."""
        self._writer.write(json.dumps(message).encode() + b"\n")
        with contextlib.suppress(ConnectionError):
            await self._writer.drain()

    async def receive(self) -> dict[str, Any] | None:
        """Its next line, a JSON object; None once it has closed its output.

        Raises ChildError for a line that is none, or is longer than 4 MiB.
        """
        line = await self.read_line()
        if not line:
            return None
        try:
            message = json.loads(line)
        except ValueError as error:
            raise ChildError("it wrote a line that is no JSON") from error
        if not isinstance(message, dict):
            raise ChildError("it wrote a line that is no JSON object")
        return message

    async def read_line(self) -> bytes:
        """Its next line, end included; empty once it has closed its output."""
        try:
            return await self._reader.readline()
        except ConnectionError:
            return b""  # It died with our message unread.
        except ValueError as error:
            raise ChildError("it wrote a line of more than 4 MiB") from error

    async def read(self, limit: int) -> bytes:
        """What it wrote, at most `limit` bytes as soon as there are any; empty at the end."""
        try:
            return await self._reader.read(limit)
        except ConnectionError:
            return b""

    async def write(self, data: bytes) -> bool:
        """Hands it `data`, waiting while it is slower; False once it takes no more."""
        self._writer.write(data)
        try:
            await self._writer.drain()
        except ConnectionError:
            return False
        return not self._writer.is_closing()

    def end_input(self) -> None:
        """Lets it find the end of its standard input."""
        with contextlib.suppress(OSError):
            self._writer.write_eof()

    async def last_words(self) -> str:
        """The end of its standard error, complete once it has ended with all of its own."""
        await asyncio.wait([self._draining], timeout=_LAST_WORDS_SECONDS)
        return self.stderr

    async def wait(self) -> int:
        """Waits for its end by itself; the exit code, or minus the signal that killed it."""
        return await self._process.wait()

    async def close(self) -> None:
        """Kills its group, reaps it and closes its pipes. Safe to call again, and to cancel."""
        if not self._killed:
            self._killed = True  # Later the number may be another group's.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        self._writer.close()
        self._stderr_writer.close()
        self._draining.cancel()
        await asyncio.wait([self._draining])
        await self._process.wait()

    async def _drain(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(_STDERR_BYTES):
                self._stderr += data
                del self._stderr[:-_STDERR_BYTES]


def ending(code: int) -> str:
    """What `Child.wait` answered, in words."""
    return f"exited with code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"
