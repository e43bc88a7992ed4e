"""Locks in Redis: keys that one process holds, and that expire if it dies."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable
from datetime import timedelta
from typing import Final, cast

from redis.exceptions import RedisError

from ingot_server.asyncio_tasks import cancel_and_wait, run_uncancelled
from ingot_server.redis import Redis

_RELEASE_SECONDS: Final = 5.0

# redis-py repeats what had no answer, so the key may already have the token.
_ACQUIRE: Final = """
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then
    return 1
end
return redis.call('GET', KEYS[1]) == ARGV[1] and 1 or 0
"""
_RENEW: Final = """
if redis.call('GET', KEYS[1]) == ARGV[1] then
    return redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
"""
_RELEASE: Final = """
if redis.call('GET', KEYS[1]) == ARGV[1] then
    return redis.call('DEL', KEYS[1])
end
return 0
"""


@contextlib.asynccontextmanager
async def redis_lock(redis: Redis, key: str, lifetime: timedelta) -> AsyncIterator[str | None]:
    """Hold the lock `key` in the body, and yield its token, which is the value of the key.

    Yields None, at once, if another process holds it. The lock is renewed in the body. If Redis
    loses it, or cannot be reached for `lifetime`, another process may get it: a write that needs
    the lock must compare the token in its script. The key is removed at the end, also if the caller
    is cancelled; if Redis does not answer within seconds, the key expires. Raises the errors of
    redis-py.
    """
    token = secrets.token_hex(8)
    arguments = (key, token, int(lifetime.total_seconds() * 1000))
    acquiring = asyncio.create_task(_call(redis, _ACQUIRE, *arguments))
    try:
        await asyncio.wait([acquiring])
        if not acquiring.result():
            yield None
            return
        renewing = asyncio.create_task(_keep_renewing(redis, *arguments))
        try:
            yield token
        finally:
            await cancel_and_wait(renewing)
    finally:
        await run_uncancelled(_release(redis, key, token, acquiring))


async def _keep_renewing(redis: Redis, key: str, token: str, lifetime_ms: int) -> None:
    while True:
        await asyncio.sleep(lifetime_ms / 4000)
        with contextlib.suppress(RedisError, OSError):
            await _call(redis, _RENEW, key, token, lifetime_ms)


async def _release(redis: Redis, key: str, token: str, acquiring: asyncio.Task[int]) -> None:
    # A command that was sent and then cancelled may still reach Redis, after the removal.
    with contextlib.suppress(RedisError, OSError, TimeoutError):
        async with asyncio.timeout(_RELEASE_SECONDS):
            await asyncio.wait([acquiring])
            await _call(redis, _RELEASE, key, token)
    await cancel_and_wait(acquiring)


async def _call(redis: Redis, script: str, key: str, *arguments: str | int) -> int:
    return await cast("Awaitable[int]", redis.eval(script, 1, key, *arguments))
