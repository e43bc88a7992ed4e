"""The cache of manifests, aliases and failures: in Redis, and manifests also in this process.

    ingot:media:<id>     the serialized Manifest, its etag included; lives for manifest_ttl.
                         Or a mark, 0xFF and random bytes: this manifest is being replaced or
                         deleted, read the bucket. Lives for MARK_SECONDS.
    ingot:alias:<id>     the media id that this id is an alias of; lives for manifest_ttl
    ingot:negative:<id>  the negative cache entry, why the source does not give this media item: a
                         serialized google.rpc.Status whose last detail is the
                         google.protobuf.Timestamp of the failure

No value outlives its manifest. A writer marks a manifest before and after it changes it. A reader
of the bucket writes only if there is no value, and only within FILL_SECONDS of the read, which is
less than the life of a mark. A writer that replaced a manifest writes only over its own mark, and
otherwise marks again. This process keeps in memory only what it got from Redis, and only while it
receives every change there (invalidation.py).

Redis may be lost at any time: then the cache is empty, and only `mark` fails.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar, cast

from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc.status_pb2 import Status
from redis.exceptions import RedisError

from ingot.v1 import reason_pb2
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.event_log import EventLogger
from ingot_server.library.invalidation import Invalidation
from ingot_server.library.manifest import SCHEMA_VERSION
from ingot_server.library.manifest_pb2 import Manifest
from ingot_server.library.memory_cache import LruCache
from ingot_server.library.shared_calls import SharedCalls
from ingot_server.log_events import Event
from ingot_server.redis import Redis

T = TypeVar("T")

logger = EventLogger(__name__)

MEMORY_ENTRIES: Final = 10_000
MEMORY_BYTES: Final = 64 << 20
MARK_SECONDS: Final = 20
FILL_SECONDS: Final = 5.0
_TIMEOUT_SECONDS: Final = 1.0
# A redis-py client opens at most 100, and fails at once when more are needed.
_CONNECTIONS: Final = 32

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
    """The cache of one process. `redis` returns bytes (`decode_responses` off)."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._media_prefix, self._alias_prefix = redis.key("media:"), redis.key("alias:")
        self._negative_prefix = redis.key("negative:")
        self._lifetime = max(timedelta(milliseconds=1), settings.manifest_ttl)
        self._negative_lifetime = settings.negative_ttl
        self._memory = LruCache(MEMORY_ENTRIES, MEMORY_BYTES)
        self._invalidation = Invalidation(
            redis, self._media_prefix, self._key_changed, self._tracking_changed
        )
        self._failures = SharedCalls(self._get_failure)
        self._connections = asyncio.Semaphore(_CONNECTIONS)
        self._failing = False

    async def start(self) -> None:
        """Begin to keep manifests in memory; returns also when Redis cannot be reached."""
        await self._invalidation.start()

    async def close(self) -> None:
        """End what `start` began, and reads whose callers are gone."""
        await self._failures.close()
        await self._invalidation.close()

    def get_from_memory(self, media_id: str) -> Manifest | None:
        """Return the manifest if it is in memory, without I/O."""
        return self._memory.get(media_id)

    async def get(self, media_id: str) -> Manifest | None:
        """Return the manifest that Redis has, and keep it in memory."""
        ticket = self._memory.begin_read(media_id)
        try:
            value = await self._query(lambda: self._redis.get(self._media_prefix + media_id))
            manifest = _manifest(value)
            if manifest is not None and value is not None:
                self._memory.put(manifest, len(value), ticket)
            return manifest
        finally:
            self._memory.end_read(media_id, ticket)

    async def get_many(self, media_ids: Sequence[str]) -> list[Manifest | None]:
        """Return what Redis has of each; it is not kept in memory, as a listing may be long."""
        if not media_ids:
            return []
        keys = [self._media_prefix + media_id for media_id in media_ids]
        values = await self._query(lambda: self._redis.mget(keys))
        return [_manifest(value) for value in values] if values else [None] * len(media_ids)

    async def fill(self, manifest: Manifest, begun: float) -> None:
        """Store a manifest that was read from or added to the bucket since `begun`, loop time."""
        if asyncio.get_running_loop().time() - begun > FILL_SECONDS:
            return
        value = manifest.SerializeToString()
        key = self._media_prefix + manifest.media.id
        await self._query(lambda: self._redis.set(key, value, px=self._lifetime, nx=True))

    async def mark(self, media_id: str) -> bytes:
        """Make every process read this media item from the bucket; call before and after a change.

        Raises Failure CACHE_UNAVAILABLE when Redis cannot be reached: then do not change anything.
        """
        mark = _MARK + secrets.token_bytes(16)
        key = self._media_prefix + media_id
        self._memory.invalidate(media_id)
        if not await self._query(lambda: self._redis.set(key, mark, ex=MARK_SECONDS)):
            raise Failure(
                reason_pb2.REASON_CACHE_UNAVAILABLE,
                "Redis cannot be reached, so servers that have this media item in memory would not "
                "notice a change. Try again when Redis is back.",
            )
        return mark

    async def settle(self, manifest: Manifest, mark: bytes) -> None:
        """Store a manifest that was written under `mark`, unless another change followed."""
        value = manifest.SerializeToString()
        lifetime = str(int(self._lifetime.total_seconds() * 1000))
        key = self._media_prefix + manifest.media.id
        await self._query(
            lambda: cast(
                Awaitable[int],
                self._redis.eval(_SETTLE, 1, key, mark, value, lifetime, str(MARK_SECONDS)),
            )
        )

    async def get_alias(self, alias_id: str) -> str | None:
        """Return the media id that `alias_id` is an alias of; None if it is not in Redis."""
        value = await self._query(lambda: self._redis.get(self._alias_prefix + alias_id))
        return value.decode() if isinstance(value, bytes) else None

    async def put_alias(self, alias_id: str, media_id: str) -> None:
        """Store that `alias_id` is an alias of `media_id`."""
        await self._query(
            lambda: self._redis.set(self._alias_prefix + alias_id, media_id, px=self._lifetime)
        )

    async def remove_alias(self, alias_id: str) -> None:
        """Remove an alias."""
        await self._query(lambda: self._redis.delete(self._alias_prefix + alias_id))

    async def remember_failure(self, media_id: str, failure: Failure) -> None:
        """Store a failure for as long as its reason is cached; many reasons are not cached."""
        lifetime = min(failure.treatment.cached_for, self._negative_lifetime)
        if lifetime < timedelta(milliseconds=1):
            return
        status = failure.status()
        now = Timestamp()
        now.FromDatetime(datetime.now(UTC))
        status.details.add().Pack(now)
        value = status.SerializeToString()
        await self._query(
            lambda: self._redis.set(self._negative_prefix + media_id, value, px=lifetime)
        )

    async def remembered_failure(self, media_id: str) -> tuple[Failure, timedelta] | None:
        """Return the failure that is in the negative cache and its age; None if there is none."""
        value = await self._failures.get(media_id)
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

    async def _get_failure(self, media_id: str) -> bytes | None:
        value = await self._query(lambda: self._redis.get(self._negative_prefix + media_id))
        return cast("bytes | None", value)

    async def forget_failure(self, media_id: str) -> None:
        """Remove the negative cache entry."""
        await self._query(lambda: self._redis.delete(self._negative_prefix + media_id))

    async def _query(self, command: Callable[[], Awaitable[T]]) -> T | None:
        """Return the reply of Redis; None if it cannot be reached, which is logged once."""
        if not self._invalidation.reachable:
            return None
        try:
            async with self._connections, asyncio.timeout(_TIMEOUT_SECONDS):
                reply = await command()
        except (RedisError, OSError, TimeoutError) as exc:
            if not self._failing:
                logger.warning(
                    Event.CACHE_LOST,
                    "Redis does not respond; media items are read from S3: %r",
                    exc,
                )
            self._failing = True
            return None
        self._failing = False
        return reply

    def _key_changed(self, key: str) -> None:
        self._memory.invalidate(key.removeprefix(self._media_prefix))

    def _tracking_changed(self, tracking: bool) -> None:
        self._memory.enabled = tracking
        self._memory.clear()
        if tracking:
            self._redis.losses.suspect()


def _manifest(value: object) -> Manifest | None:
    if not isinstance(value, bytes) or value.startswith(_MARK):
        return None
    try:
        manifest = Manifest.FromString(value)
    except DecodeError:
        return None
    # The read of the bucket that follows says what to do about one of a newer version.
    return manifest if manifest.schema_version <= SCHEMA_VERSION else None
