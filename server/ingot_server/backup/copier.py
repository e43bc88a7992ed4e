"""Copies media items from one place to another: what is there already is left alone.

Nothing is remembered between two runs. A run that was stopped is run again, and finds by the
manifests and the sizes of files how far it came: a file is there whole or not at all.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

from ingot.v1 import reason_pb2
from ingot_server.asyncio_tasks import gather_or_cancel
from ingot_server.backup.choice import Choice
from ingot_server.backup.place import Place
from ingot_server.backup.relocation import NamedFile, is_same, own_files_of, own_key, relocated
from ingot_server.backup.tally import Tally
from ingot_server.backup.verified_content import in_thread, verified
from ingot_server.errors import Failure
from ingot_server.library.aliases import FOLDER as ALIASES
from ingot_server.library.blobs import StoredObject
from ingot_server.library.feed_objects import FOLDER as FEEDS
from ingot_server.library.identity import FIRST_CHARACTERS, is_media_id
from ingot_server.library.manifest import has_expired
from ingot_server.library.manifest_objects import FOLDER, Version, manifest_key
from ingot_server.library.manifest_pb2 import Manifest
from ingot_server.library.subscription_objects import FOLDER as SUBSCRIPTIONS

_ATTEMPTS: Final = 5
_PAUSES_SECONDS: Final = (1.0, 5.0)
# What concerns one media item; everything else ends the copy.
_OF_ONE_ITEM: Final = frozenset(
    {
        reason_pb2.REASON_MEDIA_DAMAGED,
        reason_pb2.REASON_MEDIA_NOT_FOUND,
        reason_pb2.REASON_ETAG_MISMATCH,
        reason_pb2.REASON_INTERNAL,
    }
)

Objects = Mapping[str, StoredObject]
"""The objects of a place, by key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """How to copy."""

    choice: Choice = field(default_factory=Choice)
    keep_newer: bool = False
    """Whether a manifest stays that was changed at the destination after that of the source."""
    verify: bool = False
    """Whether files that are there already are read, too."""
    dry_run: bool = False
    """Whether only to find out what is to be copied."""
    at_once: int = 8
    """How many media items are copied at the same time."""
    grace: timedelta = timedelta(days=1)
    """INGOT_GC_GRACE, after which files without a manifest may be removed at any moment."""


class Copier:
    """Copies from `source` to `destination`, and counts in `tally`; `say` gets what went wrong."""

    def __init__(
        self,
        source: Place,
        destination: Place,
        wishes: Wishes,
        tally: Tally,
        say: Callable[[str], object],
    ) -> None:
        self._source = source
        self._destination = destination
        self._wishes = wishes
        self._tally = tally
        self._say = say
        self._chosen: set[str] = set()

    async def copy(self) -> None:
        """Copy all media items, then their aliases; and if all are chosen, subscriptions and feeds.

        Raises Failure STORAGE_UNAVAILABLE if one of the places cannot be used any more.
        """
        self._tally.total = await self._count()
        for character in FIRST_CHARACTERS:
            here = _by_key(await self._source.list_objects(FOLDER + character))
            there = _by_key(await self._destination.list_objects(FOLDER + character))
            ids = [_media_id(key) for key in here if _is_manifest(key)]
            await self._at_once(partial(self._copy_media, here, there), ids)
        for character in FIRST_CHARACTERS:
            found = await self._source.list_objects(ALIASES + character)
            await self._at_once(self._copy_alias, [each.key for each in found])
        if self._wishes.choice.is_all:
            for folder in (SUBSCRIPTIONS, FEEDS):
                found = await self._source.list_objects(folder)
                await self._at_once(self._copy_small, [each.key for each in found])

    async def _count(self) -> int:
        total = 0
        for character in FIRST_CHARACTERS:
            found = await self._source.list_objects(FOLDER + character)
            total += sum(_is_manifest(each.key) for each in found)
        return total

    async def _at_once(
        self, work: Callable[[str], Coroutine[Any, Any, None]], names: Sequence[str]
    ) -> None:
        waiting = iter(names)

        async def take() -> None:
            for name in waiting:
                await work(name)

        await gather_or_cancel(take() for _ in range(self._wishes.at_once))

    async def _copy_media(self, here: Objects, there: Objects, media_id: str) -> None:
        """Copy one media item, and count what came of it."""
        try:
            await self._copy_current(here, there, media_id)
        except Failure as failure:
            if failure.reason not in _OF_ONE_ITEM:
                raise
            self._tally.problems += 1
            self._say(f"{media_id}: {failure.message}")
        self._tally.done += 1

    async def _copy_current(self, here: Objects, there: Objects, media_id: str) -> None:
        """Copy until the destination has what the source has: either may change meanwhile."""
        key = manifest_key(media_id)
        for attempt in range(_ATTEMPTS):
            if attempt:
                folder = f"{FOLDER}{media_id}/"
                here = _by_key(await self._source.list_objects(folder))
                there = _by_key(await self._destination.list_objects(folder))
            current = await self._source.version(media_id)
            if current.manifest is None or key not in here:
                return  # deleted meanwhile
            try:
                if await self._copy_version(current.manifest, here[key].modify_time, there):
                    return
            except Failure as failure:
                is_replaced = (await self._source.version(media_id)).manifest != current.manifest
                if failure.reason != reason_pb2.REASON_MEDIA_DAMAGED or not is_replaced:
                    raise
        raise Failure(
            reason_pb2.REASON_ETAG_MISMATCH,
            "It is changed again and again, and was not copied. Run the command again later.",
        )

    async def _copy_version(
        self, manifest: Manifest, modify_time: datetime, there: Objects
    ) -> bool:
        """Copy one version of a media item; False if something has changed meanwhile."""
        if self._is_left_out(manifest):
            return True
        version = await self._destination.version(manifest.media.id)
        wanted = relocated(manifest, self._destination.url)
        if self._wishes.keep_newer and _is_newer(version, wanted, modify_time, there):
            assert version.manifest is not None
            if own_files_of(version.manifest.media) != own_files_of(wanted.media):
                self._tally.newer += 1
                return True
            # Its files are those of the source, which has them if they are missing or damaged.
            wanted = relocated(version.manifest, self._destination.url)
        missing = await self._missing(wanted, version, there)
        is_current = version.manifest == _with_etag(wanted, version.etag)
        if is_current and not missing:
            self._tally.unchanged += 1
            return True
        if not self._wishes.dry_run:
            for file in missing:
                await self._copy_file(file, manifest.media.id)
            if not is_current and not await self._destination.write(wanted, version, modify_time):
                return False
            if not await self._is_done(manifest, wanted):
                return False
        self._tally.copied += 1
        self._tally.adopted += own_key(wanted.media.blob.url, wanted.media.id) is None
        return True

    def _is_left_out(self, manifest: Manifest) -> bool:
        choice = self._wishes.choice
        if not choice.takes(manifest.media):
            self._tally.not_chosen += 1
            return True
        if not choice.is_all:
            self._chosen.add(manifest.media.id)
        if has_expired(manifest):
            self._tally.expired += 1
            return True
        return False

    async def _missing(self, wanted: Manifest, version: Version, there: Objects) -> list[NamedFile]:
        """Return the files that the destination does not have, or may lose."""
        files = own_files_of(wanted.media)
        if version.manifest is None:
            damaged: set[str | None] = set()
            named: list[NamedFile] = []
        else:
            stored = version.manifest
            damaged = {own_key(each.url, wanted.media.id) for each in stored.damage.files}
            named = own_files_of(stored.media)
        # What no manifest names can be removed by gc at any moment, unless it is younger.
        lasts = datetime.now(UTC) - self._wishes.grace / 2
        missing = []
        for file in files:
            found = there.get(file.key)
            if (
                found is None
                or found.size_bytes != file.size_bytes
                or file.key in damaged
                or (file not in named and found.modify_time < lasts)
                or (self._wishes.verify and not await self._is_whole(file))
            ):
                missing.append(file)
        return missing

    async def _is_whole(self, file: NamedFile) -> bool:
        """Read a file at the destination; return whether it is what its manifest says."""

        def read(check: Callable[[], None]) -> None:
            chunks = self._destination.chunks(file.key)
            for _ in verified(chunks, file, lambda _: check()):
                pass

        try:
            await in_thread(read)
        except Failure as failure:
            if failure.reason not in _OF_ONE_ITEM:
                raise
            place = self._destination.url(file.key)
            self._say(f"{place} is damaged: {failure.message}. It is copied again.")
            return False
        return True

    async def _copy_file(self, file: NamedFile, media_id: str) -> None:
        """Copy a file. Raises Failure MEDIA_DAMAGED if it cannot be had from the source."""
        for pause in (*_PAUSES_SECONDS, None):
            try:
                return await self._destination.receive(file, self._source, self._tally.add_bytes)
            except Failure as failure:
                is_missing = failure.reason == reason_pb2.REASON_MEDIA_NOT_FOUND
                problem = "it is missing" if is_missing else failure.message
                if failure.reason in _OF_ONE_ITEM:
                    break
                if pause is None:
                    # Either place can still be used, or this raises and ends the copy.
                    await self._source.version(media_id)
                    await self._destination.version(media_id)
                    break
                await asyncio.sleep(pause)
        raise Failure(
            reason_pb2.REASON_MEDIA_DAMAGED,
            f"{self._source.url(file.key)} was not copied: {problem.rstrip('.')}.",
        )

    async def _is_done(self, manifest: Manifest, wanted: Manifest) -> bool:
        """Return whether this is still the version of the source, and all files are there.

        A deletion at the destination may have removed files after they were found there.
        """
        media_id = manifest.media.id
        if (await self._source.version(media_id)).manifest != manifest:
            return False
        there = _by_key(await self._destination.list_objects(f"{FOLDER}{media_id}/"))
        return all(file.key in there for file in own_files_of(wanted.media))

    async def _copy_alias(self, key: str) -> None:
        content = await self._source.get(key)
        if content is None or (target := _target_of(content)) is None:
            return
        if target not in self._chosen and not self._wishes.choice.is_all:
            return
        stored = await self._destination.get(key)
        is_there = stored is not None and _target_of(stored) is not None
        if self._wishes.dry_run or stored == content or (is_there and self._wishes.keep_newer):
            return
        await self._destination.write_alias(key.removeprefix(ALIASES), content)

    async def _copy_small(self, key: str) -> None:
        content = await self._source.get(key)
        stored = await self._destination.get(key)
        is_kept = stored is not None and self._wishes.keep_newer
        if content is None or self._wishes.dry_run or is_kept or stored == content:
            return
        await self._destination.write_small(key, content)


def _by_key(objects: Sequence[StoredObject]) -> Objects:
    return {each.key: each for each in objects}


def _is_newer(version: Version, wanted: Manifest, modify_time: datetime, there: Objects) -> bool:
    """Return whether the version says something else, and was written after `modify_time`."""
    if version.manifest is None or is_same(version.manifest, wanted):
        return False
    found = there.get(manifest_key(wanted.media.id))
    return found is None or found.modify_time > modify_time


def _is_manifest(key: str) -> bool:
    return key.endswith("/media.json") and is_media_id(_media_id(key))


def _media_id(key: str) -> str:
    return key.split("/")[1]


def _with_etag(manifest: Manifest, etag: str) -> Manifest:
    tagged = Manifest()
    tagged.CopyFrom(manifest)
    tagged.media.etag = etag
    return tagged


def _target_of(alias: bytes) -> str | None:
    """Return the media id that an alias names; None if it cannot be read."""
    try:
        target = json.loads(alias)["media_id"]
    except (ValueError, KeyError, TypeError):
        return None
    return target if isinstance(target, str) and is_media_id(target) else None
