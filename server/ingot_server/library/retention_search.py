"""The search for media items that are past a rule of retention.

Rules are decided from the index in Redis (retention_decision.py). A rule that looks at the uploader
or the publish time reads the manifests of what the index finds for it, through the cache. What is
found is then read from the bucket, which is the truth, and compared with its rule once more.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from ingot_server.asyncio_tasks import gather_or_cancel
from ingot_server.library.blobs import Blobs
from ingot_server.library.bucket_disk import bytes_over
from ingot_server.library.catalog import Catalog
from ingot_server.library.garbage import Garbage, GarbageKind
from ingot_server.library.manifest import has_expired
from ingot_server.library.manifest_objects import ManifestObjects, manifest_key
from ingot_server.library.media_index import MediaIndex
from ingot_server.library.retention_decision import Decision, Item, decide, item_of
from ingot_server.redis import Redis, unavailable
from ingot_server.retention_rules import Rule

_BATCH: Final = 32


class RetentionSearch:
    """Finds what is past a rule.

    `in_use` returns the ids of media items that must not be removed now. `bucket_dir` is where the
    S3 server keeps its data, for rules with `min_free`. The coroutines raise Failure
    STORAGE_UNAVAILABLE and CACHE_UNAVAILABLE.
    """

    def __init__(
        self,
        catalog: Catalog,
        blobs: Blobs,
        redis: Redis,
        in_use: Callable[[], Awaitable[Collection[str]]],
        *,
        bucket_dir: str,
    ) -> None:
        self._catalog = catalog
        self._blobs = blobs
        self._bucket_dir = Path(bucket_dir)
        self._objects = ManifestObjects(blobs)
        self._index = MediaIndex(redis)
        self._in_use = in_use

    async def find(self, rules: Sequence[Rule], now: datetime) -> AsyncIterator[Garbage]:
        """Yield each media item that is past a rule at `now`, and is neither pinned nor in use.

        It has the version that was compared with the rule: whoever removes another one must not.
        """
        batch: list[tuple[str, Decision]] = []
        decided = decide([await self._decision(rule, now) for rule in rules], self._items)
        with unavailable():
            async for item, decision in decided:
                batch.append((item.entry.media_id, decision))
                if len(batch) == _BATCH:
                    for garbage in await self._confirmed(batch):
                        yield garbage
                    batch = []
            for garbage in await self._confirmed(batch):
                yield garbage

    async def _decision(self, rule: Rule, now: datetime) -> Decision:
        if not rule.min_free:
            return Decision(rule, now)
        over = await bytes_over(self._blobs, self._bucket_dir, rule.min_free)
        return Decision(rule, now, bytes_over=over)

    async def _items(self, decision: Decision, before: Sequence[Decision]) -> AsyncIterator[Item]:
        reading = [each for each in (*before, decision) if each.needs_manifests]
        async for entries in self._index.walk(decision.index_filter):
            read = {
                entry.media_id
                for entry in entries
                if any(each.may_match(entry) for each in reading)
            }
            manifests = await self._catalog.load_many(list(read)) if read else []
            found = {each.media.id: item_of(each.media) for each in manifests}
            for entry in entries:
                # One that is gone, or damaged, is none of the latest.
                if entry.media_id not in read or entry.media_id in found:
                    yield found.get(entry.media_id) or Item(entry)

    async def _confirmed(self, batch: Sequence[tuple[str, Decision]]) -> list[Garbage]:
        if not batch:
            return []
        used = await self._in_use()
        found = await gather_or_cancel(
            self._confirm(*each) for each in batch if each[0] not in used
        )
        return [garbage for garbage in found if garbage is not None]

    async def _confirm(self, media_id: str, decision: Decision) -> Garbage | None:
        version = await self._objects.read(media_id)
        if version.manifest is None or has_expired(version.manifest):
            return None
        media = version.manifest.media
        item = item_of(media)
        limit = decision.limit(item)
        if not limit:
            return None
        return Garbage(
            GarbageKind.RETENTION,
            manifest_key(media_id),
            item.entry.size_bytes,
            media.create_time.ToDatetime(UTC),
            version.etag,
            rule=decision.rule.name,
            limit=limit,
        )
