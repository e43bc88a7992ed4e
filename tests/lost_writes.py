"""A Redis that loses its last writes, as one does that fails over to an older replica."""

from __future__ import annotations

from ingot_server.redis import Redis

Dump = dict[bytes, bytes]


async def dumped(redis: Redis) -> Dump:
    dump = {}
    for key in await redis.keys("ingot:*"):
        content = await redis.dump(key)
        assert isinstance(key, bytes)
        assert content is not None
        dump[key] = content
    return dump


async def restored(redis: Redis, dump: Dump) -> None:
    """Bring back the keys as they were, and lose everything since."""
    await redis.delete(*await redis.keys("ingot:*"))
    for key, content in dump.items():
        await redis.restore(key, 0, content)
