"""`ingot-server rebuild`: fills Redis from the bucket."""

from __future__ import annotations

import contextlib
import math
import time
from dataclasses import dataclass
from typing import Final, TextIO

from ingot_server.config import Settings
from ingot_server.jobs.records import Records
from ingot_server.journal.restorer import Restorer
from ingot_server.library.blobs import Blobs
from ingot_server.library.catalog import Catalog
from ingot_server.library.media_list import MediaList
from ingot_server.redis import connect
from ingot_server.redis_checks import require_usable

_TERMINAL_SECONDS: Final = 0.1
_LINE_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a rebuild has done."""

    jobs: int
    """How many jobs of the journal were made again."""
    media_items: int | None
    """How many the index has; None if another process builds it."""


class ProgressLine:
    """Says how far something is: one line that changes on a terminal, else a line now and then."""

    def __init__(self, output: TextIO, label: str) -> None:
        self._output = output
        self._label = label
        self._pause = _TERMINAL_SECONDS if output.isatty() else _LINE_SECONDS
        self._written_at = -math.inf
        self._unwritten = ""

    def show(self, count: int, total: int) -> None:
        """Say that `count` of `total` are done."""
        self._unwritten = f"{self._label}: {count} of {total}"
        if time.monotonic() - self._written_at >= self._pause:
            self._write()

    def end(self) -> None:
        """Say how far it came."""
        if self._unwritten:
            self._write()
        if self._output.isatty():
            self._output.write("\n")

    def _write(self) -> None:
        text = f"\r{self._unwritten}" if self._output.isatty() else f"{self._unwritten}\n"
        self._output.write(text)
        self._output.flush()
        self._written_at, self._unwritten = time.monotonic(), ""


async def rebuild(settings: Settings, output: TextIO) -> Rebuilt:
    """Make lost jobs again and build the index of media items, with the progress on `output`.

    Raises Failure if Redis or S3 cannot be used.
    """
    async with contextlib.AsyncExitStack() as stack:
        redis = connect(settings)
        stack.push_async_callback(redis.aclose)
        await require_usable(redis)
        blobs = Blobs(settings)
        stack.push_async_callback(blobs.close)
        await blobs.prepare()
        restorer = Restorer(Records(redis, settings).journal, blobs)
        groups = ProgressLine(output, "groups of the journal")
        jobs = await restorer.restore(groups.show)
        groups.end()
        media_list = MediaList(Catalog(blobs, redis, settings), blobs, redis)
        items = ProgressLine(output, "media items")
        media_items = await media_list.rebuild_index(from_manifests=True, progress=items.show)
        items.end()
        return Rebuilt(jobs, media_items)
