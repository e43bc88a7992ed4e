"""The real scripts on a real server, with a clock that a test sets; nothing in it ever waits.

The classes of the product call the scripts through a `ModelRedis`. Each call of a script also
returns what it has written (clock.lua), so all that is stored is known after each of them.
"""

from __future__ import annotations

import asyncio
import socket
import tempfile
from collections import defaultdict
from collections.abc import Callable, Coroutine, Generator, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, tzinfo
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar, cast

import hiredis
from redis.asyncio.client import Pipeline

from ingot_server.local.local_servers import redis_program, valkey_executable
from ingot_server.redis import Argument, Script
from tests.servers import process

PREFIX = "ingot:"
BEGIN = 1_900_000_000_000
_CLOCK = Path(__file__).with_name("clock.lua").read_bytes()
_END = b"end return { product(), contents() }"

_Result = TypeVar("_Result")
Change = Callable[[str, bytes], bytes]
"""Changes the text of a script, by its file's name."""


class Clock(datetime):
    """The date for code that asks for it; `milliseconds` is the time for the scripts."""

    milliseconds = BEGIN

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        return datetime.fromtimestamp(cls.milliseconds / 1000, UTC)


class Server:
    """A connection to a server."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(address)
        self._reader = hiredis.Reader()
        self.runner = asyncio.Runner()

    def ask(self, *command: Any) -> Any:
        """Return the reply to a command."""
        [reply] = self.ask_together([command])
        return reply

    def ask_together(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Return the replies to commands that are sent at once."""
        self._socket.sendall(b"".join(map(hiredis.pack_command, commands)))
        replies = [self._receive() for _ in commands]
        for reply in replies:
            if isinstance(reply, hiredis.ReplyError):
                raise reply
        return replies

    def _receive(self) -> Any:
        while (reply := self._reader.gets()) is False:
            self._reader.feed(self._socket.recv(65536))
        return reply

    def close(self) -> None:
        self.runner.close()
        self._socket.close()


@contextmanager
def running_server() -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="ingot-") as folder:
        address = Path(folder) / "redis.sock"
        with process(redis_program(valkey_executable(), Path(folder) / "redis", address)):
            server = Server(str(address))
            try:
                yield server
            finally:
                server.close()


class ModelRedis:
    """What the classes of the product need of `ingot_server.redis.Redis`."""

    def __init__(self, server: Server, change: Change = lambda _, text: text) -> None:
        self.runner = server.runner
        self.stored: dict[str, Any] = {}
        """All that is stored, by the names of the keys."""
        self.by_kind: defaultdict[str, dict[str, Any]] = defaultdict(dict)
        """The same by the first word of the key, and then by the rest of it."""
        self._server = server
        self._change = change
        self._together: list[tuple[Any, ...]] | None = None
        server.ask("FLUSHALL")
        self._nothing = self._load(b"return 0 ")

    def key(self, name: str) -> str:
        return PREFIX + name

    def load_script(self, package: str, *names: str) -> ModelScript:
        files = resources.files(package)
        parts = [self._change(name, files.joinpath(name).read_bytes()) for name in names]
        return ModelScript(self, self._load(b"\n".join(parts)))

    async def hget(self, name: str, field: str) -> Any:
        return self._server.ask("HGET", name, field)

    async def hmget(self, name: str, fields: Sequence[str]) -> Any:
        return self._server.ask("HMGET", name, *fields)

    def expire(self) -> None:
        """Let keys expire."""
        finish(self.run(self._nothing, []))

    def finish_together(self, calls: Sequence[Coroutine[Any, Any, _Result]]) -> Iterator[_Result]:
        """Yield the results of coroutines that run a script each, one after the other.

        Their commands go to the server at once. After each result, what is stored is what it is
        after that script.
        """
        self._together = []
        for call in calls:
            call.send(None)
        commands, self._together = self._together, None
        assert len(commands) == len(calls), "each must run one script"
        for call, reply in zip(calls, self._server.ask_together(commands), strict=True):
            yield finish(call, reply)

    async def run(self, script: bytes, arguments: Sequence[str | int | bytes]) -> Any:
        command = ("EVALSHA", script, 3, PREFIX, PREFIX, Clock.milliseconds, *arguments)
        if self._together is None:
            reply = self._server.ask(*command)
        else:
            self._together.append(command)
            reply = await _Reply()
        result, written = reply
        for key, value in zip(written[::2], written[1::2], strict=True):
            name = key.decode()
            kind, _, rest = name.partition(":")
            if value:
                self.stored[name] = self.by_kind[kind][rest] = value
            else:
                self.stored.pop(name, None)
                self.by_kind[kind].pop(rest, None)
        return result

    def _load(self, text: bytes) -> bytes:
        script = self._server.ask("SCRIPT", "LOAD", b"\n".join((_CLOCK, text, _END)))
        return cast("bytes", script)


class ModelScript(Script):
    """A script that runs at the time of `Clock`."""

    def __init__(self, redis: ModelRedis, script: bytes) -> None:
        self._redis = redis
        self._loaded = script

    async def run(self, arguments: Sequence[Argument], *, pipeline: Pipeline | None = None) -> Any:
        assert pipeline is None
        return await self._redis.run(self._loaded, arguments)


class _Reply:
    """Awaits the reply to a command that is sent together with others."""

    def __await__(self) -> Generator[None, Any, Any]:
        return (yield)


def finish(coroutine: Coroutine[Any, Any, _Result], reply: object = None) -> _Result:
    """Return the result of a coroutine that never waits, or for nothing but a `reply`."""
    try:
        coroutine.send(reply)
    except StopIteration as done:
        result: _Result = done.value
        return result
    coroutine.close()
    raise AssertionError("it waits")
