"""The Redis client, one for each process, and its errors as failures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from redis import exceptions
from redis.asyncio import BlockingConnectionPool, Redis

from ingot.v1 import reason_pb2
from ingot_server.config import SettingError, Settings
from ingot_server.errors import Failure
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


def connect(settings: Settings) -> Redis:
    """Return a client whose callers wait for a free connection; redis-py's default pool raises.

    Raises SettingError for a URL with options that redis-py does not know.
    """
    try:
        pool = BlockingConnectionPool.from_url(settings.redis_url, max_connections=MAX_CONNECTIONS)
        # Otherwise the first command would raise TypeError for an unknown option.
        pool.connection_class(**pool.connection_kwargs)
    except (TypeError, ValueError) as error:
        raise SettingError(
            f"INGOT_REDIS_URL: {without_password(settings.redis_url)!r} has an option that "
            f"cannot be used: {error}."
        ) from error
    return Redis.from_pool(pool)


@contextmanager
def unavailable() -> Iterator[None]:
    """Translate the errors of a Redis that cannot be used into Failure CACHE_UNAVAILABLE."""
    try:
        yield
    except exceptions.RedisError as error:
        if isinstance(error, exceptions.ResponseError) and not _is_temporary(error):
            raise
        raise Failure(
            reason_pb2.REASON_CACHE_UNAVAILABLE, f"Redis cannot be used now: {error}"
        ) from error


def _is_temporary(error: exceptions.ResponseError) -> bool:
    """Tell whether Redis refused because of its own state, not because of the command."""
    return isinstance(error, _UNAVAILABLE_ERRORS) or str(error).startswith(_UNAVAILABLE_CODES)
