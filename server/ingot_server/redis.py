"""The Redis client, one for each process, the names of its keys, and its errors as failures.

Every key and channel of Ingot begins with INGOT_REDIS_PREFIX, so that several installations can
share one server. `Redis.key` and `Redis.channel` are the only places where names get it, and a
script gets it as KEYS. The modules that own a key document it with the default prefix, `ingot:`.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from typing import Any, Final, cast

import redis.asyncio
from redis import exceptions
from redis.asyncio.client import Pipeline

from ingot.v1 import reason_pb2
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.outage import Outage
from ingot_server.redis_losses import Losses
from ingot_server.setting_values import SettingError
from ingot_server.store_urls import without_password

MAX_CONNECTIONS: Final = 64

# Errors of a Redis that fails over, is full, cannot write to its disk, or has lost its replicas.
# redis-py has no exception for those in _UNAVAILABLE_CODES.
_UNAVAILABLE_ERRORS: Final = (
    exceptions.ReadOnlyError,
    exceptions.OutOfMemoryError,
    exceptions.MasterDownError,
    exceptions.ClusterDownError,
    exceptions.TryAgainError,
    exceptions.NoPermissionError,
)
_UNAVAILABLE_CODES: Final = ("NOREPLICAS", "MISCONF", "BUSY")
_COMMAND: Final = re.compile(r"^Command # .* of pipeline caused error: \W*", re.DOTALL)


Argument = str | int | bytes
"""What a script can be given."""


class Redis(redis.asyncio.Redis):
    """A client that knows how the names of this installation begin. It closes its `pool`."""

    def __init__(self, pool: redis.asyncio.ConnectionPool, prefix: str) -> None:
        super().__init__(connection_pool=pool)
        self.auto_close_connection_pool = True
        self._prefix = prefix
        self.outage = Outage("Redis")
        self.losses = Losses()
        # The databases of a server have keys of their own, but share its channels.
        database = int(pool.connection_kwargs.get("db") or 0)
        self._channel_prefix = self._prefix + (f"{database}:" if database else "")

    def key(self, name: str) -> str:
        """Return the key that `name`, such as `job:<job id>`, has in Redis."""
        return self._prefix + name

    def channel(self, name: str) -> str:
        """Return the channel that `name` has in Redis."""
        return self._channel_prefix + name

    def load_script(self, package: str, *file_names: str) -> Script:
        """Return the Lua script in a file of a package, or in several as its parts.

        Its KEYS are what its keys begin with, and what its channels begin with.
        """
        parts = [resources.files(package).joinpath(name).read_bytes() for name in file_names]
        return Script(self, b"\n".join(parts), [self._prefix, self._channel_prefix])


class Script:
    """A Lua script, made by `Redis.load_script`. redis-py loads it again if Redis has lost it."""

    def __init__(self, client: Redis, source: bytes, prefixes: Sequence[str]) -> None:
        self._script = client.register_script(source)
        self._prefixes = prefixes

    async def run(self, arguments: Sequence[Argument], *, pipeline: Pipeline | None = None) -> Any:
        """Run the script, or add it to a `pipeline`. Raises the errors of redis-py."""
        return await cast(
            "Awaitable[Any]",
            self._script(keys=list(self._prefixes), args=list(arguments), client=pipeline),
        )

    async def call(self, operation: str, subject: str, **arguments: Argument) -> list[Any]:
        """Run one operation of a script that reads its arguments by name (arguments.lua).

        Raises Failure CACHE_UNAVAILABLE.
        """
        flat: list[Argument] = [operation, subject]
        for name, value in arguments.items():
            flat += [name, value]
        with unavailable():
            return cast("list[Any]", await self.run(flat))


def connect(settings: Settings) -> Redis:
    """Return a client whose callers wait for a free connection; redis-py's default pool raises.

    Raises SettingError for a URL with options that redis-py does not know.
    """
    try:
        pool = redis.asyncio.BlockingConnectionPool.from_url(
            settings.redis_url, max_connections=MAX_CONNECTIONS
        )
        # Otherwise the first command would raise TypeError for an unknown option.
        pool.connection_class(**pool.connection_kwargs)
    except (TypeError, ValueError) as error:
        raise SettingError(
            f"INGOT_REDIS_URL: {without_password(settings.redis_url)!r} has an option that "
            f"cannot be used: {error}."
        ) from error
    return Redis(pool, settings.redis_prefix)


@contextmanager
def unavailable() -> Iterator[None]:
    """Translate the errors of a Redis that cannot be used into Failure CACHE_UNAVAILABLE."""
    try:
        yield
    except exceptions.RedisError as error:
        if isinstance(error, exceptions.ResponseError) and not _is_temporary(error):
            raise
        raise Failure(
            reason_pb2.REASON_CACHE_UNAVAILABLE, f"Redis cannot be used now: {_message(error)}"
        ) from error


def _is_temporary(error: exceptions.ResponseError) -> bool:
    """Tell whether Redis refused because of its own state, not because of the command."""
    return isinstance(error, _UNAVAILABLE_ERRORS) or _message(error).startswith(_UNAVAILABLE_CODES)


def _message(error: exceptions.RedisError) -> str:
    """Return what Redis said; redis-py puts the command before it, if that was in a pipeline."""
    return _COMMAND.sub("", str(error))
