r"""The index of media items in Redis, which makes lists of them cheap. The bucket stays the truth.

    ingot:index:all                 zset    all media items
    ingot:index:source:<name>       zset    those of a source
    ingot:index:derived:<media id>  zset    those made of a media item
    ingot:index:owner:<name>        zset    those of an owner
    ingot:index:kind:<number>       zset    those of a MediaKind
    ingot:index:label:<key>=<value> zset    those with a label; the value is percent-encoded
    ingot:index:pinned              zset    those that are pinned
    ingot:index:entries             hash    media id -> its member, its bytes, and the names of its
                                            sets, each on a line; with spaces between the three
    ingot:index:owner-bytes         hash    owner -> bytes of all media items of that owner
    ingot:index:texts               hash    media id -> title and uploader in one case
    ingot:index:built               string  the index has all media items
    ingot:index:builder             string  expires; the lock of the process that builds the index
    ingot:index:checked             string  expires; the index was lately compared with the bucket

A member is the create time in milliseconds, as 14 digits, followed by the media id. All scores are
0, so the members of a set are in the order of time. The bytes of an owner are always the sum over
the entries; those of a media item are those of all of its files. Whoever reads a list drops
entries whose media items are gone: the index never says that something is stored.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, cast
from urllib.parse import quote

from ingot.v1 import media_pb2
from ingot.v1.media_pb2 import Media, MediaKind
from ingot_server.library.manifest import size_of
from ingot_server.library.manifest_pb2 import IndexEntry
from ingot_server.redis import Redis
from ingot_server.redis_lock import redis_lock

PINNED: Final = "pinned"
_ALL: Final = "all"
_BUILDER_LIFETIME: Final = timedelta(seconds=30)
_TIME_DIGITS: Final = 14
_TEXT_CHARACTERS: Final = 512
# How many entries are examined for one page at most; the page then ends early.
_EXAMINED: Final = 10_000
_CHUNK: Final = 1000
# See media_index.lua: an earlier version of the server has left entries without bytes.
_ENTRY: Final = re.compile(r"(\S+) (\d*) ?(.*)", re.DOTALL)
# Whoever lost the lock, lost with Redis what was added before.
_SET_BUILT: Final = """
if redis.call('GET', KEYS[1]) == ARGV[1] then
    redis.call('SET', KEYS[2], '1')
end
return 1
"""


@dataclass(frozen=True, slots=True)
class MediaFilter:
    """Which media items to list: those that match everything that is set."""

    owner: str = ""
    source: str = ""
    derived_from_media_id: str = ""
    kind: MediaKind.ValueType = media_pb2.MEDIA_KIND_UNSPECIFIED
    labels: Mapping[str, str] = field(default_factory=dict)
    text: str = ""
    """Words that are all in the title or the uploader, in any case."""
    created_after: datetime | None = None
    """The earliest create time."""
    created_before: datetime | None = None
    """The first create time that is too late."""

    def sets(self) -> list[str]:
        """Return the names of the sets that have all matching media items."""
        named = [
            self.owner and f"owner:{self.owner}",
            self.source and f"source:{self.source}",
            self.derived_from_media_id and f"derived:{self.derived_from_media_id}",
            f"kind:{self.kind}" if self.kind else "",
            *map(label_set, self.labels.items()),
        ]
        return [name for name in named if name] or [_ALL]

    def matches_text(self, text: str) -> bool:
        """Tell whether all words are in `text`, which is in one case."""
        return all(word in text for word in self.text.casefold().split())


@dataclass(frozen=True, slots=True)
class Found:
    """A part of a list."""

    media_ids: Sequence[str]
    cursor: str
    """Where the list continues; empty at its end."""


class MediaIndex:
    """The index. Its coroutines raise the errors of redis-py."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._script = redis.load_script(__package__, "media_index.lua")

    async def add(self, media: Media) -> None:
        """List a media item in its sets, and no longer in those of an earlier version of it."""
        await self._script.run(["add", *_arguments(entry_of(media))])

    async def add_missing(self, entries: Sequence[IndexEntry]) -> None:
        """List those media items that are in no list; what the index has of others is newer."""
        for begin in range(0, len(entries), _CHUNK):
            async with self._redis.pipeline(transaction=False) as pipeline:
                for entry in entries[begin : begin + _CHUNK]:
                    await self._script.run(["add_missing", *_arguments(entry)], pipeline=pipeline)
                await pipeline.execute()

    async def remove(self, media_id: str) -> None:
        """Remove a media item from all lists."""
        await self._script.run(["remove", media_id])

    async def find(self, wanted: MediaFilter, *, limit: int, cursor: str = "") -> Found:
        """Return at most `limit` media items that match, newest first.

        Returns fewer, perhaps none, if many had to be examined; the cursor then continues the list.
        """
        first, *others = await self._smallest_first(wanted.sets())
        exact = not others and not wanted.text
        upper = f"({cursor}" if cursor else _bound(wanted.created_before, "+")
        lower = _bound(wanted.created_after, "-")
        media_ids: list[str] = []
        last = ""
        for _ in range(0, _EXAMINED, _CHUNK):
            # One more than the page has tells whether the list continues.
            count = limit + 1 if exact else _CHUNK
            members = await self._members(first, upper, lower, count)
            for member in await self._matching(members, others, wanted):
                if len(media_ids) == limit:
                    return Found(media_ids, last)
                last = member
                media_ids.append(member[_TIME_DIGITS:])
            if len(members) < count:
                return Found(media_ids, "")
            upper = f"({members[-1]}"
        return Found(media_ids, upper[1:])

    async def walk(self, wanted: MediaFilter) -> AsyncIterator[Sequence[IndexEntry]]:
        """Yield the entries of all media items that match, newest first, some at a time.

        They have neither the text nor the etag.
        """
        first, *others = await self._smallest_first(wanted.sets())
        upper = _bound(wanted.created_before, "+")
        lower = _bound(wanted.created_after, "-")
        while members := await self._members(first, upper, lower, _CHUNK):
            matching = await self._matching(members, others, wanted)
            if entries := await self._entries(matching):
                yield entries
            upper = f"({members[-1]}"

    async def is_built(self) -> bool:
        """Tell whether the index has all media items."""
        return bool(await self._redis.exists(self._key("built")))

    async def begin_check(self, interval: timedelta) -> bool:
        """Return whether a check is due: the last one, of any process, began `interval` ago."""
        return bool(await self._redis.set(self._key("checked"), "1", nx=True, px=interval))

    @asynccontextmanager
    async def building(self) -> AsyncIterator[bool]:
        """Build or check the index in the body, if no other process does: then yield True.

        After the body, the index counts as built, unless Redis was lost meanwhile.
        """
        builder = self._key("builder")
        async with redis_lock(self._redis, builder, _BUILDER_LIFETIME) as token:
            yield token is not None
            if token is not None:
                await cast(
                    "Awaitable[int]",
                    self._redis.eval(_SET_BUILT, 2, builder, self._key("built"), token),
                )

    async def listed(self) -> AsyncIterator[str]:
        """Yield the id of each media item that is in the index."""
        async for media_id, _ in self._redis.hscan_iter(self._key("entries"), count=_CHUNK):
            yield media_id.decode()

    async def _smallest_first(self, names: Sequence[str]) -> list[str]:
        if len(names) == 1:
            return list(names)
        async with self._redis.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.zcard(self._key(name))
            sizes = await pipeline.execute()
        return [name for _, name in sorted(zip(sizes, names, strict=True))]

    async def _members(self, name: str, upper: str, lower: str, count: int) -> list[str]:
        found = await self._redis.zrevrangebylex(self._key(name), upper, lower, start=0, num=count)
        return [cast("bytes", member).decode() for member in found]

    async def _entries(self, members: Sequence[str]) -> Sequence[IndexEntry]:
        if not members:
            return []
        media_ids = [member[_TIME_DIGITS:] for member in members]
        found = await cast(
            "Awaitable[list[bytes | None]]", self._redis.hmget(self._key("entries"), media_ids)
        )
        return [
            _parsed(media_id, entry.decode())
            for media_id, entry in zip(media_ids, found, strict=True)
            if entry is not None
        ]

    async def _matching(
        self, members: Sequence[str], others: Sequence[str], wanted: MediaFilter
    ) -> Sequence[str]:
        """Return the members that are in all other sets, too, and have the text."""
        for name in others:
            if not members:
                break
            scores = await self._redis.zmscore(self._key(name), list(members))
            pairs = zip(members, scores, strict=True)
            members = [member for member, score in pairs if score is not None]
        if not wanted.text or not members:
            return members
        media_ids = [member[_TIME_DIGITS:] for member in members]
        texts = await cast(
            "Awaitable[list[bytes | None]]", self._redis.hmget(self._key("texts"), media_ids)
        )
        return [
            member
            for member, text in zip(members, texts, strict=True)
            if text is not None and wanted.matches_text(text.decode())
        ]

    def _key(self, name: str) -> str:
        return self._redis.key(f"index:{name}")


def kind_of(media: Media) -> MediaKind.ValueType:
    """Return what a media item is, by its content type and its streams."""
    if media.blob.content_type.startswith("image/"):
        return media_pb2.MEDIA_KIND_IMAGE
    if media.video:
        return media_pb2.MEDIA_KIND_VIDEO
    return media_pb2.MEDIA_KIND_AUDIO if media.audio else media_pb2.MEDIA_KIND_OTHER


def member_of(media: Media) -> str:
    """Return the member of a media item in the sets, which is also the cursor after it."""
    return f"{media.create_time.ToMilliseconds():0{_TIME_DIGITS}d}{media.id}"


def create_milliseconds(entry: IndexEntry) -> int:
    """Return the create time of a media item in milliseconds since 1970."""
    return int(entry.member[:_TIME_DIGITS])


def label_set(label: tuple[str, str]) -> str:
    """Return the name of the set of the media items with a label, a key and a value."""
    key, value = label
    return f"label:{key}={quote(value, safe='')}"


def entry_of(media: Media) -> IndexEntry:
    """Return what the index has of a media item."""
    return IndexEntry(
        media_id=media.id,
        etag=media.etag,
        member=member_of(media),
        text=_text(media),
        sets=_sets(media),
        size_bytes=size_of(media),
    )


def _parsed(media_id: str, text: str) -> IndexEntry:
    """Return an entry of `ingot:index:entries`."""
    member, size, names = cast("re.Match[str]", _ENTRY.fullmatch(text)).groups()
    return IndexEntry(
        media_id=media_id, member=member, size_bytes=int(size or 0), sets=names.split("\n")
    )


def _arguments(entry: IndexEntry) -> list[str]:
    return [entry.media_id, entry.member, str(entry.size_bytes), entry.text, *entry.sets]


def _text(media: Media) -> str:
    return f"{media.title} {media.uploader}".casefold()[:_TEXT_CHARACTERS]


def _sets(media: Media) -> list[str]:
    named = [
        _ALL,
        f"source:{media.source.name}",
        f"kind:{kind_of(media)}",
        *map(label_set, media.labels.items()),
    ]
    if media.owner:
        named.append(f"owner:{media.owner}")
    if media.derived_from_media_id:
        named.append(f"derived:{media.derived_from_media_id}")
    if media.pinned:
        named.append(PINNED)
    return named


def _bound(moment: datetime | None, default: str) -> str:
    """Return a bound of ZREVRANGEBYLEX: before every member of that millisecond."""
    if moment is None:
        return default
    return f"({round(moment.timestamp() * 1000):0{_TIME_DIGITS}d}"
