"""Converting while the file still comes down.

    a workflow wishes -> its ingest, in this process, is followed -> its conversion takes the result

What is begun on the head of a file counts only for the very bytes that were stored in the end, and
only if the whole file asks for the same command (`making.py`); else it is made again from the
start. It is given away once: its taker moves it. A workflow also keeps the file itself until it is
done, so that its conversions need not bring it back from the bucket. Nothing here waits for the
processor: a conversion is begun early when a place is free that moment, or not at all. A workflow
whose conversions run here stays in its worker until they are done; the places bound how many do, so
that most slots are left to ingests.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from ingot.v1.media_pb2 import Media
from ingot.v1.recipe_pb2 import Recipe
from ingot_server.errors import Failure, reason_name
from ingot_server.library.recipes import recipe_text
from ingot_server.probe.prober import Prober
from ingot_server.transcode.ffmpeg import Ffmpeg
from ingot_server.transcode.ffmpeg_run import Advance, Encoded, can_begin_early, encode
from ingot_server.transcode.slots import Slots
from ingot_server.transfer.growing_file import Abandoned
from ingot_server.transfer.scratch import Scratch, ScratchFile

logger = logging.getLogger(__name__)

# Enough for the head of a file whose index comes first.
LOOK_BYTES: Final = 1 << 20


class Speculation:
    """What one workflow wants made of a media that is on its way. Its files lie in `folder`."""

    def __init__(self, recipes: Sequence[Recipe], folder: Path) -> None:
        self.folder = folder
        self.early = {recipe_text(each): each for each in recipes if can_begin_early(each)}
        self.tasks: dict[str, asyncio.Task[Encoded | None]] = {}
        self.listeners: dict[str, Advance] = {}
        self.places = 0
        self._begun: list[asyncio.Task[Encoded | None]] = []
        self._file: ScratchFile | None = None

    @property
    def source(self) -> Path:
        return self.folder / "source"

    def follow(self, file: ScratchFile) -> bool:
        """From now on `file` is what it is about: a later attempt begins anew.

        False when the scratch space's file system cannot keep it beyond its ingest.
        """
        self.drop()
        try:
            os.link(file.path, self.source)
        except OSError as error:
            logger.warning("the file of an ingest cannot be kept for its conversions: %s", error)
            return False
        self._file = file
        return True

    def begin(self, text: str, encoding: Coroutine[Any, Any, Encoded | None]) -> None:
        """Makes what the recipe `text` says, as long as the file is the same."""
        self.tasks[text] = asyncio.create_task(encoding)
        self._begun.append(self.tasks[text])

    def abandon(self, recipe: Recipe) -> None:
        """What is begun for `recipe` and nobody took is of no use any more."""
        if (task := self.tasks.pop(recipe_text(recipe), None)) is not None:
            task.cancel()

    def drop(self) -> None:
        for task in self.tasks.values():
            task.cancel()
        self.tasks.clear()
        self.listeners.clear()
        self.source.unlink(missing_ok=True)
        self._file = None

    async def end(self) -> None:
        """Drops all; returns when nothing of it runs any more."""
        self.drop()
        if self._begun:
            await asyncio.wait(self._begun)

    def holds(self, sha256: str) -> bool:
        return self._file is not None and self._file.sha256 == sha256


class SpeculativeTranscoder:
    """The wishes of this process; one for all jobs of a worker.

    `places` is how many conversions run with their workflows at once, early or not.
    """

    def __init__(
        self, ffmpeg: Ffmpeg, prober: Prober, slots: Slots, scratch: Scratch, *, places: int
    ) -> None:
        self._ffmpeg = ffmpeg
        self._prober = prober
        self._slots = slots
        self._scratch = scratch
        self._places = places
        self._wishes: dict[str, list[Speculation]] = {}

    @asynccontextmanager
    async def speculate(
        self, media_id: str, recipes: Sequence[Recipe], folder: Path
    ) -> AsyncIterator[Speculation]:
        """While open, an ingest of that media in this process is followed."""
        speculation = Speculation(recipes, folder)
        self._wishes.setdefault(media_id, []).append(speculation)
        try:
            yield speculation
        finally:
            self._wishes[media_id].remove(speculation)
            if not self._wishes[media_id]:
                del self._wishes[media_id]
            self._give_back(speculation)
            await speculation.end()

    def take_places(self, speculation: Speculation, wanted: int) -> int:
        """How many of its conversions may run in this process, `wanted` at most; it keeps them."""
        more = min(max(0, wanted - speculation.places), self._places)
        self._places -= more
        speculation.places += more
        return min(wanted, speculation.places)

    def follow(self, media_id: str, file: ScratchFile) -> None:
        """An ingest of the media begins to write `file`."""
        for speculation in self._wishes.get(media_id, ()):
            self._give_back(speculation)
            if speculation.follow(file):
                for text, recipe in speculation.early.items():
                    speculation.begin(text, self._encode(speculation, text, recipe, file))

    def link_source(self, sha256: str, target: Path) -> bool:
        """Whether a workflow keeps a file with that checksum: then `target` is another name of it.

        Many media may have these bytes, and the workflow that keeps them may end at any time.
        """
        speculation = self._wish(sha256)
        if speculation is not None:
            os.link(speculation.source, target)
        return speculation is not None

    async def encoded(
        self, sha256: str, recipe: Recipe, folder: Path, progress: Advance
    ) -> Encoded | None:
        """What was begun early for that source, once it is done; None: nothing that is of use.

        It is moved into `folder` and found here no more.
        """
        speculation = self._wish(sha256)
        text = recipe_text(recipe)
        task = speculation.tasks.get(text) if speculation is not None else None
        if speculation is None or task is None:
            return None
        speculation.listeners[text] = progress
        await asyncio.wait([task])
        if speculation.tasks.get(text) is not task:  # another has taken it, or the file began anew
            return None
        del speculation.tasks[text]
        encoded = task.result()
        if encoded is None:
            return None
        path = folder / "encoded"
        encoded.path.replace(path)
        return replace(encoded, path=path)

    def _give_back(self, speculation: Speculation) -> None:
        self._places += speculation.places
        speculation.places = 0

    def _wish(self, sha256: str) -> Speculation | None:
        wishes = (speculation for wishes in self._wishes.values() for speculation in wishes)
        return next((speculation for speculation in wishes if speculation.holds(sha256)), None)

    async def _encode(
        self, speculation: Speculation, text: str, recipe: Recipe, file: ScratchFile
    ) -> Encoded | None:
        def progress(done: float, total: float, speed: float, /) -> None:
            if listener := speculation.listeners.get(text):
                listener(done, total, speed)

        if not (self._slots.free and self._places):
            return None
        self.take_places(speculation, speculation.places + 1)
        reader = file.tail(outlives=True)
        try:
            async with self._slots.take(1):
                folder = speculation.folder / f"early-{len(text)}-{id(reader):x}"
                await asyncio.to_thread(folder.mkdir)
                return await encode(
                    recipe,
                    await self._look(speculation.source, file),
                    reader,
                    folder,
                    ffmpeg=self._ffmpeg,
                    progress=progress,
                    check=self._scratch.check_space,
                )
        except (Abandoned, Failure, OSError) as failure:
            # The file ends with its own error; and what needs the whole file gets it later.
            name = type(failure).__name__
            if isinstance(failure, Failure):
                name = reason_name(failure.reason)
            logger.info("not converted early: %s: %s", name, failure)
            return None
        finally:
            reader.close()

    async def _look(self, path: Path, file: ScratchFile) -> Media:
        """What the file is, by its head; `path` is where it stays."""
        head = file.tail(outlives=True)
        try:
            await asyncio.to_thread(head.read, LOOK_BYTES)
        finally:
            with suppress(OSError):
                head.close()
        return await self._prober.look(path)
