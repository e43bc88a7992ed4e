"""Aliases: that what one id names is a media of another id.

    alias/<asked media id>     {"media_id": ..., "source_key": ...}, small JSON
    ingot:alias:<asked id>     the media id, in Redis; lives for manifest_ttl

A URL gives an id without asking anybody. When its extraction finds a better identity, the id of the
URL becomes an alias of the id of that identity. An alias is a hint and says nothing about whether
the media exists. It may be read late: this process believes one for HELD_SECONDS.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import OrderedDict
from typing import Final

from ingot_server.library.blobs import Blobs
from ingot_server.library.cache import Cache
from ingot_server.library.identity import is_media_id

logger = logging.getLogger(__name__)

FOLDER: Final = "alias/"
HELD_SECONDS: Final = 30.0
HELD_ENTRIES: Final = 10_000
_CONTENT_TYPE: Final = "application/json"


class Aliases:
    """All aliases in the bucket. What asks the bucket raises Failure STORAGE_UNAVAILABLE."""

    def __init__(self, blobs: Blobs, cache: Cache) -> None:
        self._blobs = blobs
        self._cache = cache
        # asked id -> media id, and when it is asked for again; the oldest first
        self._held: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def get_from_memory(self, asked_id: str) -> str | None:
        """The media id if this process holds it; no I/O. None says nothing."""
        found = self._held.get(asked_id)
        if found is None or found[1] < asyncio.get_running_loop().time():
            return None
        return found[0]

    async def get(self, asked_id: str, *, late: bool = True) -> str | None:
        """The media id that `asked_id` is an alias of; None when it is none.

        Without `late` it is not taken from what this process holds.
        """
        held = self.get_from_memory(asked_id) if late else None
        if held is not None:
            return held
        media_id = await self._cache.alias(asked_id)
        if media_id is None:
            found = await self._blobs.get(FOLDER + asked_id)
            media_id = _parsed(asked_id, found[0]) if found is not None else None
            if media_id is not None:
                await self._cache.keep_alias(asked_id, media_id)
        if media_id is not None:
            self._hold(asked_id, media_id)
        else:
            self._held.pop(asked_id, None)
        return media_id

    async def put(self, asked_id: str, media_id: str, source_key: str) -> None:
        """Makes `asked_id` an alias of the media `media_id`, whose source key is for people."""
        content = json.dumps({"media_id": media_id, "source_key": source_key}).encode()
        await self._blobs.put(FOLDER + asked_id, content, content_type=_CONTENT_TYPE)
        await self._cache.keep_alias(asked_id, media_id)
        self._hold(asked_id, media_id)

    async def remove(self, asked_id: str) -> None:
        """Makes `asked_id` stand for itself again."""
        await self._blobs.remove(FOLDER + asked_id)
        await self._cache.forget_alias(asked_id)
        self._held.pop(asked_id, None)

    def _hold(self, asked_id: str, media_id: str) -> None:
        until = asyncio.get_running_loop().time() + HELD_SECONDS
        self._held[asked_id] = media_id, until
        self._held.move_to_end(asked_id)
        while len(self._held) > HELD_ENTRIES:
            self._held.popitem(last=False)


def _parsed(asked_id: str, content: bytes) -> str | None:
    """The media id of an alias; one that cannot be read counts as none, and is written anew."""
    try:
        media_id = json.loads(content)["media_id"]
    except (ValueError, KeyError, TypeError):
        media_id = ""
    if isinstance(media_id, str) and is_media_id(media_id):
        return media_id
    logger.error("the alias %s%s cannot be read", FOLDER, asked_id)
    return None
