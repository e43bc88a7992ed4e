"""Conversions that begin while their file is still being downloaded.

    a workflow speculates -> its ingest here is watched -> its conversion takes the result

A conversion that was begun from the head of a file counts only if the very bytes it read were
stored in the end, and only if the whole file leads to the same command (`FfmpegRun.would_repeat`);
otherwise it is made again from the start. It is handed over once: its taker moves the file. A
workflow also keeps the source file until it is done, so that its conversions do not have to fetch
it from the bucket.

Nothing here waits for the processor: a conversion begins early if a slot is free at that moment, or
not at all. A workflow whose conversions run here stays in its worker until they are done. Capacity
limits how many do, so that most slots of the worker are left to ingests.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from ingot.v1.media_pb2 import Media
from ingot.v1.recipe_pb2 import Recipe
from ingot_server.errors import Failure, reason_name
from ingot_server.event_log import EventLogger
from ingot_server.library.recipes import recipe_text
from ingot_server.log_events import Event
from ingot_server.probe.prober import Prober
from ingot_server.transcode.ffmpeg_run import EncodedFile, OnProgress, TranscodeProgress
from ingot_server.transcode.plan import can_begin_early, is_made_from_head, plan_conversion
from ingot_server.transcode.slots import Slots
from ingot_server.transcode.transcoder import Transcoder
from ingot_server.transfer.growing_file import Abandoned
from ingot_server.transfer.scratch import Scratch, ScratchFile

logger = EventLogger(__name__)

HEAD_BYTES: Final = 1 << 20
"""Enough for the head of a file whose index comes first."""


class Speculation:
    """The early conversions of one workflow. Their files are in `folder`."""

    def __init__(self, recipes: Sequence[Recipe], folder: Path) -> None:
        self.folder = folder
        self.early = {recipe_text(each): each for each in recipes if can_begin_early(each)}
        self.tasks: dict[str, asyncio.Task[EncodedFile | None]] = {}
        self.listeners: dict[str, OnProgress] = {}
        self.shares: dict[str, float] = {}
        """How much of each recipe's early conversion is done, from 0 to 1."""
        self.reserved = 0
        """How much of the capacity it holds."""
        self._begun: list[asyncio.Task[EncodedFile | None]] = []
        self._file: ScratchFile | None = None

    @property
    def source(self) -> Path:
        return self.folder / "source"

    def watch_file(self, file: ScratchFile) -> bool:
        """Use `file` as the source from now on: another attempt starts again.

        Returns False if the file system cannot keep the file after its ingest.
        """
        self.drop()
        try:
            os.link(file.path, self.source)
        except OSError as error:
            logger.warning(
                Event.EARLY_CONVERSION_IMPOSSIBLE,
                "the file of an ingest cannot be kept for its conversions: %s",
                error,
            )
            return False
        self._file = file
        return True

    def begin(self, text: str, encoding: Coroutine[Any, Any, EncodedFile | None]) -> None:
        """Begin the conversion of the recipe `text`; it lasts as long as the file is the same."""
        self.tasks[text] = asyncio.create_task(encoding)
        self._begun.append(self.tasks[text])

    def abandon(self, recipe: Recipe) -> None:
        """Cancel the early conversion of `recipe` unless its result was taken."""
        if (task := self.tasks.pop(recipe_text(recipe), None)) is not None:
            task.cancel()

    def drop(self) -> None:
        """Cancel all early conversions and let go of the file."""
        for task in self.tasks.values():
            task.cancel()
        self.tasks.clear()
        self.listeners.clear()
        self.shares.clear()
        self.source.unlink(missing_ok=True)
        self._file = None

    async def end(self) -> None:
        """Drop everything, and return when none of it runs any more."""
        self.drop()
        if self._begun:
            await asyncio.wait(self._begun)

    def holds(self, sha256: str) -> bool:
        """Return whether the source file is complete and has that checksum."""
        return self._file is not None and self._file.sha256 == sha256


class SpeculativeTranscoder:
    """The speculations of this process; one for all jobs of a worker.

    `capacity` is how many conversions run in the process of their workflow at the same time, early
    or not.
    """

    def __init__(
        self,
        transcoder: Transcoder,
        prober: Prober,
        slots: Slots,
        scratch: Scratch,
        *,
        capacity: int,
    ) -> None:
        self._transcoder = transcoder
        self._prober = prober
        self._slots = slots
        self._scratch = scratch
        self._capacity = capacity
        self._speculations: dict[str, list[Speculation]] = {}

    @asynccontextmanager
    async def speculate(
        self, media_id: str, recipes: Sequence[Recipe], folder: Path
    ) -> AsyncIterator[Speculation]:
        """Watch for an ingest of that media item in this process, as long as this is open."""
        speculation = Speculation(recipes, folder)
        self._speculations.setdefault(media_id, []).append(speculation)
        try:
            yield speculation
        finally:
            self._speculations[media_id].remove(speculation)
            if not self._speculations[media_id]:
                del self._speculations[media_id]
            self._release(speculation)
            await speculation.end()

    def reserve(self, speculation: Speculation, wanted: int) -> int:
        """Return how many of its conversions may run in this process, at most `wanted`.

        The speculation keeps that capacity until it ends.
        """
        more = min(max(0, wanted - speculation.reserved), self._capacity)
        self._capacity -= more
        speculation.reserved += more
        return min(wanted, speculation.reserved)

    def watch_file(self, media_id: str, file: ScratchFile) -> None:
        """Begin early conversions of `file`, which an ingest of the media item begins to write."""
        for speculation in self._speculations.get(media_id, ()):
            self._release(speculation)
            if speculation.watch_file(file):
                for text, recipe in speculation.early.items():
                    speculation.begin(text, self._encode(speculation, text, recipe, file))

    def link_source(self, sha256: str, target: Path) -> bool:
        """Link a source file with that checksum to `target`; return whether there is one.

        Several media items may have these bytes. The link stays when their workflow ends.
        """
        speculation = self._holder(sha256)
        if speculation is not None:
            os.link(speculation.source, target)
        return speculation is not None

    async def take_encoded(
        self, sha256: str, recipe: Recipe, folder: Path, on_progress: OnProgress
    ) -> EncodedFile | None:
        """Wait for the early conversion of that source, and move its result into `folder`.

        Returns None if there is nothing of use. The result can be taken once, so of two conversions
        of the same bytes only the first waits for it.
        """
        speculation = self._holder(sha256)
        text = recipe_text(recipe)
        task = speculation.tasks.get(text) if speculation is not None else None
        if speculation is None or task is None or text in speculation.listeners:
            return None
        speculation.listeners[text] = on_progress
        try:
            await asyncio.wait([task])
        finally:
            speculation.listeners.pop(text, None)
        if speculation.tasks.get(text) is not task:  # it was taken, or the file started again
            return None
        del speculation.tasks[text]
        encoded = task.result()
        if encoded is None:
            return None
        path = folder / "encoded"
        encoded.path.replace(path)
        return replace(encoded, path=path)

    def _release(self, speculation: Speculation) -> None:
        self._capacity += speculation.reserved
        speculation.reserved = 0

    def _holder(self, sha256: str) -> Speculation | None:
        every = (each for several in self._speculations.values() for each in several)
        return next((each for each in every if each.holds(sha256)), None)

    async def _encode(
        self, speculation: Speculation, text: str, recipe: Recipe, file: ScratchFile
    ) -> EncodedFile | None:
        def report(progress: TranscodeProgress) -> None:
            if progress.total_seconds:
                done = progress.done_seconds / progress.total_seconds
                speculation.shares[text] = min(1.0, done)
            if listener := speculation.listeners.get(text):
                listener(progress)

        if not (self._slots.free and self._capacity):
            return None
        self.reserve(speculation, speculation.reserved + 1)
        reader = file.tail(outlives=True)
        try:
            async with self._slots.acquire(1):
                folder = speculation.folder / f"early-{len(text)}-{id(reader):x}"
                await asyncio.to_thread(folder.mkdir)
                head = await self._probe_head(speculation.source, file)
                plan = plan_conversion(recipe, head)
                if not is_made_from_head(plan):
                    return None
                return await self._transcoder.encode_stream(
                    plan, reader, folder, on_progress=report
                )
        except (Abandoned, Failure, OSError) as failure:
            # The ingest reports its own errors. What needs the whole file gets it later.
            name = type(failure).__name__
            if isinstance(failure, Failure):
                name = reason_name(failure.reason)
            logger.info(
                Event.EARLY_CONVERSION_IMPOSSIBLE, "not converted early: %s: %s", name, failure
            )
            return None
        finally:
            reader.close()

    async def _probe_head(self, path: Path, file: ScratchFile) -> Media:
        """Return what the head of the file says; `path` is where the file stays."""
        head = file.tail(outlives=True)
        try:
            await asyncio.to_thread(head.read, HEAD_BYTES)
        finally:
            with suppress(OSError):
                head.close()
        return await self._prober.probe_head(path)
