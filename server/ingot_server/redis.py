"""The Redis client, one for each process."""

from __future__ import annotations

from typing import Final

from redis.asyncio import BlockingConnectionPool, Redis

from ingot_server.config import Settings

MAX_CONNECTIONS: Final = 64


def connect(settings: Settings) -> Redis:
    """Return a client whose callers wait for a free connection; redis-py's default pool raises."""
    return Redis.from_pool(
        BlockingConnectionPool.from_url(settings.redis_url, max_connections=MAX_CONNECTIONS)
    )
