"""Bodies of HTTP responses, which are written into scratch until the file is whole."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from typing import Final

from ingot.v1 import reason_pb2
from ingot_server.config import Settings
from ingot_server.errors import Failure, too_large
from ingot_server.transfer.least_rate import DownloadRates
from ingot_server.transfer.response_body import BROKEN, ResponseBody
from ingot_server.transfer.scratch import ScratchFile

_PROGRESS_SECONDS: Final = 0.1


class ContentChanged(Exception):
    """The source sends different content than before."""


class Body:
    """One file that is being received: `received` bytes, of `total` if known, are in scratch.

    `progress` is called with both at most ten times a second. `host` is the sender, for messages.
    """

    def __init__(
        self,
        scratch_file: ScratchFile,
        settings: Settings,
        host: str,
        progress: Callable[[int, int | None], None],
    ) -> None:
        self.received = 0
        self.total: int | None = None
        self._file = scratch_file
        self._settings = settings
        self._host = host
        self._progress = progress
        self._to_compare = 0
        self._compared = hashlib.sha256()
        self._next_progress = 0.0
        self._rates = DownloadRates(settings)

    def set_total(self, total: int | None) -> None:
        """Set the size of the whole file, if it is known. Raises Failure TOO_LARGE."""
        if total is None:
            return
        if total > self._settings.max_media_size:
            raise too_large(int(self._settings.max_media_size), total)
        self.total = total
        self._file.reserve(total - self.received)

    def contradicts(self, total: int | None) -> bool:
        """Return whether `total` certainly differs from the size that was announced."""
        return None not in (self.total, total) and self.total != total

    async def restart(self) -> None:
        """Empty the file. Raises Failure SOURCE_FAILED if an upload has read bytes of it."""
        if self._file.was_read:
            raise Failure(
                reason_pb2.REASON_SOURCE_FAILED,
                f"{self._host} changed the file during the download. It is fetched again.",
            )
        await self._file.restart()
        self.received = 0

    async def receive(self, body: ResponseBody, *, known: int = 0) -> Exception | None:
        """Write the response into scratch to its end; return what broke it, None if it is whole.

        The first `known` bytes are in scratch already and are only compared. Raises ContentChanged
        if they differ, and Failure: STALLED, TOO_LARGE, TRUNCATED, SOURCE_FAILED for what cannot be
        decoded, and the failures of scratch.
        """
        self._to_compare, self._compared = known, hashlib.sha256()
        self._rates.begin_response()
        while True:
            try:
                data = await self._rates.read(body, self._host)
            except (*BROKEN, EOFError) as exc:
                return exc
            if not data:
                break
            await self._append(data)
        missing = self.total is not None and self.received < self.total
        return EOFError("The response ended early.") if missing or self._to_compare else None

    async def _append(self, data: bytes) -> None:
        if self._to_compare:
            data = self._compare(data)
            if not data:
                return
        self.received += len(data)
        if self.received > self._settings.max_media_size:
            raise too_large(int(self._settings.max_media_size))
        if self.total is not None and self.received > self.total:
            raise Failure(
                reason_pb2.REASON_TRUNCATED,
                f"{self._host} announced {self.total} bytes but sent more.",
            )
        loop = asyncio.get_running_loop()
        before = loop.time()
        await self._file.write(data)
        after = loop.time()
        self._rates.allow(after - before)
        if after >= self._next_progress:
            self._next_progress = after + _PROGRESS_SECONDS
            self._progress(self.received, self.total)

    def _compare(self, data: bytes) -> bytes:
        """Compare `data` with what is in scratch; return the bytes beyond that."""
        known, rest = data[: self._to_compare], data[self._to_compare :]
        self._compared.update(known)
        self._to_compare -= len(known)
        if not self._to_compare and self._compared.hexdigest() != self._file.sha256:
            raise ContentChanged
        return rest
