"""Aliases: other ids of a media item.

    alias/<alias id>           {"media_id": ..., "source_key": ...}, small JSON
    ingot:alias:<alias id>     the media id, in Redis; lives for manifest_ttl

A URL gives an id without a lookup. When its extraction finds a better identity, the id of the URL
becomes an alias of the id of that identity. An alias is a hint: its media item may not exist, and
it may be stale, because this process keeps an alias in memory for MEMORY_SECONDS.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from typing import Final

from ingot_server.event_log import EventLogger
from ingot_server.library.blobs import Blobs
from ingot_server.library.cache import Cache
from ingot_server.library.identity import is_media_id
from ingot_server.library.shared_calls import SharedCalls
from ingot_server.log_events import Event

logger = EventLogger(__name__)

FOLDER: Final = "alias/"
MEMORY_SECONDS: Final = 30.0
MEMORY_ENTRIES: Final = 10_000
_CONTENT_TYPE: Final = "application/json"


class Aliases:
    """All aliases in the bucket. The coroutines raise Failure STORAGE_UNAVAILABLE."""

    def __init__(self, blobs: Blobs, cache: Cache) -> None:
        self._blobs = blobs
        self._cache = cache
        # alias id -> media id, and until when it may be used; the oldest first
        self._in_memory: OrderedDict[str, tuple[str, float]] = OrderedDict()
        self._reads = SharedCalls(self._find)

    async def close(self) -> None:
        """End reads whose callers are gone."""
        await self._reads.close()

    def get_from_memory(self, alias_id: str) -> str | None:
        """Return the media id if this process has it in memory, without I/O.

        None does not mean that there is no alias.
        """
        found = self._in_memory.get(alias_id)
        if found is None or found[1] < asyncio.get_running_loop().time():
            return None
        return found[0]

    async def get(self, alias_id: str, *, allow_stale: bool = True) -> str | None:
        """Return the media id that `alias_id` is an alias of; None if it is not an alias.

        Without `allow_stale`, the memory of this process is not used. A thousand calls at once read
        it twice at most.
        """
        remembered = self.get_from_memory(alias_id) if allow_stale else None
        if remembered is not None:
            return remembered
        return await self._reads.get(alias_id)

    async def _find(self, alias_id: str) -> str | None:
        media_id = await self._cache.get_alias(alias_id)
        if media_id is None:
            media_id = await self.read(alias_id)
            if media_id is not None:
                await self._cache.put_alias(alias_id, media_id)
        if media_id is not None:
            self._remember(alias_id, media_id)
        else:
            self._in_memory.pop(alias_id, None)
        return media_id

    async def read(self, alias_id: str) -> str | None:
        """Return the media id in the bucket; None if there is no alias, or it cannot be read."""
        found = await self._blobs.get(FOLDER + alias_id)
        return _parsed(alias_id, found[0]) if found is not None else None

    async def put(self, alias_id: str, media_id: str, source_key: str) -> None:
        """Make `alias_id` an alias of `media_id`; its source key is stored for people."""
        content = json.dumps({"media_id": media_id, "source_key": source_key}).encode()
        await self._blobs.put(FOLDER + alias_id, content, content_type=_CONTENT_TYPE)
        await self._cache.put_alias(alias_id, media_id)
        self._remember(alias_id, media_id)

    async def remove(self, alias_id: str) -> None:
        """Remove the alias `alias_id`, which then stands for itself."""
        await self._blobs.remove(FOLDER + alias_id)
        await self._cache.remove_alias(alias_id)
        self._in_memory.pop(alias_id, None)

    def _remember(self, alias_id: str, media_id: str) -> None:
        until = asyncio.get_running_loop().time() + MEMORY_SECONDS
        self._in_memory[alias_id] = media_id, until
        self._in_memory.move_to_end(alias_id)
        while len(self._in_memory) > MEMORY_ENTRIES:
            self._in_memory.popitem(last=False)


def _parsed(alias_id: str, content: bytes) -> str | None:
    """Return the media id of an alias; None if it cannot be read, so that it is written again."""
    try:
        media_id = json.loads(content)["media_id"]
    except (ValueError, KeyError, TypeError):
        media_id = ""
    if isinstance(media_id, str) and is_media_id(media_id):
        return media_id
    logger.error(Event.ALIAS_UNREADABLE, "the alias %s%s cannot be read", FOLDER, alias_id)
    return None
