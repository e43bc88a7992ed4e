"""Converting while the file still comes down.

    a workflow wishes -> its ingest, in this process, is followed -> its conversion takes the result

What is begun on the head of a file counts only for the very bytes that were stored in the end, and
only if the whole file asks for the same command (`making.py`); else it is made again from the
start. A workflow also keeps the file itself until it is done, so that its conversions need not
bring it back from the bucket. Nothing here waits for the processor: a conversion is begun early
when a place is free that moment, or not at all.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from ingot.v1.media_pb2 import Media
from ingot.v1.recipe_pb2 import Recipe
from ingot_server.errors import Failure, reason_name
from ingot_server.library.recipes import recipe_text
from ingot_server.pipeline.ffmpeg import Ffmpeg
from ingot_server.pipeline.follower import Abandoned
from ingot_server.pipeline.making import Advance, Encoded, can_begin_early, encode
from ingot_server.pipeline.probe import Prober
from ingot_server.pipeline.scratch import ScratchFile
from ingot_server.pipeline.slots import Slots

logger = logging.getLogger(__name__)

# Enough for the head of a file whose index comes first.
LOOK_BYTES: Final = 1 << 20


class Wish:
    """What one workflow wants made of a media that is on its way. Its files lie in `folder`."""

    def __init__(self, recipes: Sequence[Recipe], folder: Path) -> None:
        self.folder = folder
        self.early = {recipe_text(each): each for each in recipes if can_begin_early(each)}
        self.tasks: dict[str, asyncio.Task[Encoded | None]] = {}
        self.listeners: dict[str, Advance] = {}
        self._file: ScratchFile | None = None

    @property
    def source(self) -> Path:
        return self.folder / "source"

    def follow(self, file: ScratchFile) -> None:
        """From now on `file` is what it is about: a later attempt begins anew."""
        self.drop()
        self._file = file
        os.link(file.path, self.source)

    def drop(self) -> None:
        for task in self.tasks.values():
            task.cancel()
        self.tasks.clear()
        self.source.unlink(missing_ok=True)
        self._file = None

    def holds(self, sha256: str) -> bool:
        return self._file is not None and self._file.sha256 == sha256


class Ahead:
    """The wishes of this process; one for all jobs of a worker."""

    def __init__(self, ffmpeg: Ffmpeg, prober: Prober, slots: Slots) -> None:
        self._ffmpeg = ffmpeg
        self._prober = prober
        self._slots = slots
        self._wishes: dict[str, list[Wish]] = {}

    @asynccontextmanager
    async def wished(
        self, media_id: str, recipes: Sequence[Recipe], folder: Path
    ) -> AsyncIterator[Wish]:
        """While open, an ingest of that media in this process is followed."""
        wish = Wish(recipes, folder)
        self._wishes.setdefault(media_id, []).append(wish)
        try:
            yield wish
        finally:
            self._wishes[media_id].remove(wish)
            if not self._wishes[media_id]:
                del self._wishes[media_id]
            tasks = list(wish.tasks.values())
            wish.drop()
            if tasks:
                await asyncio.wait(tasks)

    def follow(self, media_id: str, file: ScratchFile) -> None:
        """An ingest of the media begins to write `file`."""
        for wish in self._wishes.get(media_id, ()):
            wish.follow(file)
            for text, recipe in wish.early.items():
                wish.tasks[text] = asyncio.create_task(self._begin(wish, text, recipe, file))

    def source(self, sha256: str) -> Path | None:
        """A file with that checksum, which stays while its workflow lasts; None: there is none."""
        wish = self._wish(sha256)
        return wish.source if wish is not None else None

    async def encoded(self, sha256: str, recipe: Recipe, progress: Advance) -> Encoded | None:
        """What was begun early for that source, once it is done; None: nothing that is of use."""
        wish = self._wish(sha256)
        text = recipe_text(recipe)
        task = wish.tasks.get(text) if wish is not None else None
        if wish is None or task is None:
            return None
        wish.listeners[text] = progress
        await asyncio.wait([task])
        return None if task.cancelled() else task.result()

    def _wish(self, sha256: str) -> Wish | None:
        wishes = (wish for wishes in self._wishes.values() for wish in wishes)
        return next((wish for wish in wishes if wish.holds(sha256)), None)

    async def _begin(
        self, wish: Wish, text: str, recipe: Recipe, file: ScratchFile
    ) -> Encoded | None:
        def progress(done: float, total: float, speed: float, /) -> None:
            if listener := wish.listeners.get(text):
                listener(done, total, speed)

        if not self._slots.free:
            return None
        reader = file.follow(outlives=True)
        try:
            async with self._slots.take(1):
                folder = wish.folder / f"early-{len(text)}-{id(reader):x}"
                await asyncio.to_thread(folder.mkdir)
                media = await self._look(file)
                return await encode(
                    recipe, media, reader, folder, ffmpeg=self._ffmpeg, progress=progress
                )
        except (Abandoned, Failure) as failure:
            # The file ends with its own error; and what needs the whole file gets it later.
            name = reason_name(failure.reason) if isinstance(failure, Failure) else "ABANDONED"
            logger.info("not converted early: %s: %s", name, failure)
            return None
        finally:
            reader.close()

    async def _look(self, file: ScratchFile) -> Media:
        """What the file is, by its head."""
        head = file.follow(outlives=True)
        try:
            await asyncio.to_thread(head.read, LOOK_BYTES)
        finally:
            with suppress(OSError):
                head.close()
        return await self._prober.look(file.path)
