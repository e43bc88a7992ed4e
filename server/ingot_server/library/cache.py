"""What is known of media without asking the bucket: in this process, and in Redis.

    ingot:media:<id>     the manifest as a serialized Media, etag included; lives for manifest_ttl.
                         Or a mark, 0xFF and random bytes: this manifest is being replaced or
                         deleted, ask the bucket. Lives for MARK_SECONDS.
    ingot:alias:<id>     the id of the media that this id is an alias of; lives for manifest_ttl
    ingot:absent:<id>    why the source has no such media: a serialized google.rpc.Status whose last
                         detail is the google.protobuf.Timestamp of when it said so

No value outlives its manifest. Who changes a manifest marks it before and after. Who read one from
the bucket writes only where nothing is, and only within FILL_SECONDS of the read, which is sooner
than any mark ends. Who replaced one writes only over its own mark, and else marks again. This
process keeps only what it got from Redis, while it hears of every change there (invalidation.py).

Redis may be lost at any time: nothing is known then, and nothing fails but `mark`.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar, cast

from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc.status_pb2 import Status
from redis.asyncio import Redis
from redis.exceptions import RedisError

from ingot.v1 import reason_pb2
from ingot.v1.media_pb2 import Media
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.library.invalidation import Invalidation
from ingot_server.library.memory_cache import LruCache

T = TypeVar("T")

logger = logging.getLogger(__name__)

HELD_ENTRIES: Final = 10_000
HELD_BYTES: Final = 64 << 20
MARK_SECONDS: Final = 20
FILL_SECONDS: Final = 5.0
_PATIENCE_SECONDS: Final = 1.0
# Of the 100 that a redis-py client opens at most, past which it fails at once.
_CONNECTIONS: Final = 32

_MEDIA: Final = "ingot:media:"
_ABSENT: Final = "ingot:absent:"
_ALIAS: Final = "ingot:alias:"
_MARK: Final = b"\xff"
# KEYS: the media's key. ARGV: own mark, value, its milliseconds, a mark's seconds.
_SETTLE: Final = """
local found = redis.call('GET', KEYS[1])
if found == ARGV[1] then
    redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
elseif not found or string.byte(found) ~= 255 then
    redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[4])
end
return 1
"""


class Cache:
    """One for each process. `redis` answers with bytes (`decode_responses` off)."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._lifetime = max(timedelta(milliseconds=1), settings.manifest_ttl)
        self._negative_lifetime = settings.negative_ttl
        self._held = LruCache(HELD_ENTRIES, HELD_BYTES)
        self._invalidation = Invalidation(redis, _MEDIA, self._changed, self._restarted)
        self._asking = asyncio.Semaphore(_CONNECTIONS)
        self._failing = False

    async def start(self) -> None:
        """Begins to hold media in this process; returns also when Redis cannot be reached."""
        await self._invalidation.start()

    async def close(self) -> None:
        await self._invalidation.close()

    def get_from_memory(self, media_id: str) -> Media | None:
        return self._held.get(media_id)

    async def get(self, media_id: str) -> Media | None:
        """What Redis has; it is held from then on."""
        ticket = self._held.ticket(media_id)
        try:
            value = await self._ask(lambda: self._redis.get(_MEDIA + media_id))
            media = _media(value)
            if media is not None and value is not None:
                self._held.store(media, len(value), ticket)
            return media
        finally:
            self._held.give_back(media_id, ticket)

    async def get_many(self, media_ids: Sequence[str]) -> list[Media | None]:
        """What Redis has of each; not held, as a listing may pass over everything there is."""
        if not media_ids:
            return []
        keys = [_MEDIA + media_id for media_id in media_ids]
        values = await self._ask(lambda: self._redis.mget(keys))
        return [_media(value) for value in values] if values else [None] * len(media_ids)

    async def fill(self, media: Media, begun: float) -> None:
        """Keeps what was read from, or newly put into, the bucket since `begun`, loop time."""
        if asyncio.get_running_loop().time() - begun > FILL_SECONDS:
            return
        value = media.SerializeToString()
        key = _MEDIA + media.id
        await self._ask(lambda: self._redis.set(key, value, px=self._lifetime, nx=True))

    async def mark(self, media_id: str) -> bytes:
        """Makes everybody ask the bucket for this media, before and after it is changed there.

        Raises Failure CACHE_UNAVAILABLE when nobody could be told: then nothing may be changed.
        """
        mark = _MARK + secrets.token_bytes(16)
        key = _MEDIA + media_id
        self._held.drop(media_id)
        if not await self._ask(lambda: self._redis.set(key, mark, ex=MARK_SECONDS)):
            raise Failure(
                reason_pb2.REASON_CACHE_UNAVAILABLE,
                "Redis cannot be reached, so the servers that hold this media cannot be told of a "
                "change. Try again when it is back.",
            )
        return mark

    async def settle(self, media: Media, mark: bytes) -> None:
        """Keeps what was written to the bucket under `mark`, unless another change came after."""
        value = media.SerializeToString()
        lifetime = str(int(self._lifetime.total_seconds() * 1000))
        key = _MEDIA + media.id
        await self._ask(
            lambda: cast(
                Awaitable[int],
                self._redis.eval(_SETTLE, 1, key, mark, value, lifetime, str(MARK_SECONDS)),
            )
        )

    async def alias(self, asked_id: str) -> str | None:
        """The id of the media that `asked_id` is known to be an alias of."""
        value = await self._ask(lambda: self._redis.get(_ALIAS + asked_id))
        return value.decode() if isinstance(value, bytes) else None

    async def keep_alias(self, asked_id: str, media_id: str) -> None:
        await self._ask(lambda: self._redis.set(_ALIAS + asked_id, media_id, px=self._lifetime))

    async def forget_alias(self, asked_id: str) -> None:
        await self._ask(lambda: self._redis.delete(_ALIAS + asked_id))

    async def remember_failure(self, media_id: str, failure: Failure) -> None:
        """Keeps a failure for as long as its reason holds, which for many is not at all."""
        lifetime = min(failure.treatment.cached_for, self._negative_lifetime)
        if lifetime < timedelta(milliseconds=1):
            return
        status = failure.status()
        now = Timestamp()
        now.FromDatetime(datetime.now(UTC))
        status.details.add().Pack(now)
        value = status.SerializeToString()
        await self._ask(lambda: self._redis.set(_ABSENT + media_id, value, px=lifetime))

    async def remembered_failure(self, media_id: str) -> tuple[Failure, timedelta] | None:
        """The failure that is remembered, and its age."""
        value = await self._ask(lambda: self._redis.get(_ABSENT + media_id))
        if value is None:
            return None
        time = Timestamp()
        try:
            status = Status.FromString(value)
        except DecodeError:
            return None
        if not status.details or not status.details.pop().Unpack(time):
            return None
        age = max(timedelta(0), datetime.now(UTC) - time.ToDatetime(UTC))
        return Failure.from_status(status), age

    async def forget_failure(self, media_id: str) -> None:
        await self._ask(lambda: self._redis.delete(_ABSENT + media_id))

    async def _ask(self, command: Callable[[], Awaitable[T]]) -> T | None:
        """The answer of Redis; None too when it gives none, which is logged once."""
        if not self._invalidation.reachable:
            return None
        try:
            async with self._asking, asyncio.timeout(_PATIENCE_SECONDS):
                answer = await command()
        except (RedisError, OSError, TimeoutError) as exc:
            if not self._failing:
                logger.warning("Redis does not answer, media come from S3: %r", exc)
            self._failing = True
            return None
        self._failing = False
        return answer

    def _changed(self, key: str) -> None:
        self._held.drop(key.removeprefix(_MEDIA))

    def _restarted(self, listening: bool) -> None:
        self._held.open = listening
        self._held.clear()


def _media(value: object) -> Media | None:
    if not isinstance(value, bytes) or value.startswith(_MARK):
        return None
    try:
        return Media.FromString(value)
    except DecodeError:
        return None
