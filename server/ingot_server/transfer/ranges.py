"""Ranges of a file over HTTP, for a reader that needs only some of it (RFC 9110, section 14)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from ingot.v1 import reason_pb2
from ingot_server.config import Settings
from ingot_server.errors import Failure, too_large
from ingot_server.library.manifest_pb2 import SourceVersion
from ingot_server.transfer.download import open_body
from ingot_server.transfer.fetch import Fetcher
from ingot_server.transfer.headers import Version, content_range, file_name
from ingot_server.transfer.least_rate import DownloadRates
from ingot_server.transfer.response_body import BROKEN, ResponseBody

_ATTEMPTS: Final = 4


class Unranged(Exception):
    """The source does not send ranges of the file, so all of it has to be downloaded."""


class RangedDownload:
    """The ranges of one file, appended to a file on the disk as they arrive."""

    def __init__(
        self,
        url: str,
        path: Path,
        fetcher: Fetcher,
        settings: Settings,
        progress: Callable[[int, int | None], None],
    ) -> None:
        """`progress` is called with the bytes that were received, of an unknown number."""
        self._url = url
        self._path = path
        self._fetcher = fetcher
        self._settings = settings
        self._progress = progress
        self._final_url = url
        self._rates = DownloadRates(settings)
        self._clock = asyncio.get_running_loop().time
        self._idle_since = self._clock()
        self.received = 0
        self.size_bytes = 0
        self.filename = ""
        """For people; may be empty."""
        self.version = Version("", "")

    async def begin(self, first_bytes: int, stored: SourceVersion) -> bool:
        """Receive the first bytes; False if `stored` is current, and nothing was received.

        Raises Unranged if the response is not a range, and what `download` raises for what is not
        a file.
        """
        conditions = {
            "If-None-Match": stored.http_etag,
            "If-Modified-Since": stored.http_last_modified,
        }
        headers = {name: value for name, value in conditions.items() if value}
        asked = {**headers, "Range": f"bytes=0-{first_bytes - 1}"}
        async with self._fetcher.get(self._url, asked) as (final_url, response):
            if response.status == 304 and headers:
                return False
            found = content_range(response.headers) if response.status == 206 else None
            if found is None or found.first != 0 or not found.total:
                raise Unranged
            host = urlsplit(final_url).hostname or ""
            body = ResponseBody(response, host)
            if body.is_coded:
                raise Unranged
            try:
                await open_body(response, body, host, self._settings)
            except (*BROKEN, EOFError) as error:
                raise Unranged from error
            self._final_url, self.size_bytes = final_url, found.total
            self.filename = file_name(response.headers, final_url)
            self.version = Version.of(response.headers)
            content = await self._read(response, body, min(first_bytes, found.total))
        if content is None:
            raise Unranged
        await self._append(content)
        self._idle_since = self._clock()
        return True

    async def fetch(self, begin: int, end: int) -> None:
        """Append the bytes from `begin` up to `end`. Raises Failure."""
        # The reader takes its time between two ranges.
        self._rates.allow(self._clock() - self._idle_since)
        try:
            await self._fetch(begin, end)
        finally:
            self._idle_since = self._clock()

    async def _fetch(self, begin: int, end: int) -> None:
        for attempt in range(_ATTEMPTS):
            # A redirect may lead elsewhere the next time, or its target's signature run out.
            address = self._url if attempt % 2 else self._final_url
            try:
                content = await self._request(address, begin, end)
            except Failure as failure:
                if not failure.transient or attempt == _ATTEMPTS - 1:
                    raise
            else:
                if content is not None:
                    await self._append(content)
                    return
            await asyncio.sleep(0.05 * 2**attempt)
        raise Failure(
            reason_pb2.REASON_SOURCE_UNREACHABLE,
            f"{urlsplit(self._url).hostname} broke off the transfer of a range again and again. "
            "Try again later.",
        )

    async def _request(self, address: str, begin: int, end: int) -> bytes | None:
        """Return a range; None if it broke off."""
        headers = {"Range": f"bytes={begin}-{end - 1}"}
        async with self._fetcher.get(address, headers) as (final_url, response):
            host = urlsplit(final_url).hostname or ""
            found = content_range(response.headers) if response.status == 206 else None
            changed = self.version.differs(Version.of(response.headers))
            is_same = found is not None and (found.first, found.total) == (begin, self.size_bytes)
            if changed or not is_same:
                raise Failure(
                    reason_pb2.REASON_TRUNCATED,
                    f"The file was changed at {host} while ranges of it were requested, or {host} "
                    f"sends them no more (HTTP {response.status}).",
                )
            body = ResponseBody(response, host, decodes=False)
            return await self._read(response, body, end - begin)

    async def _read(
        self, response: aiohttp.ClientResponse, body: ResponseBody, size: int
    ) -> bytes | None:
        """Return `size` bytes of a body; None if it broke off before."""
        content = bytearray()
        host = response.url.host or ""
        self._rates.begin_response()
        while len(content) < size:
            try:
                data = await self._rates.read(body, host)
            except (*BROKEN, EOFError):
                return None
            if not data:
                return None
            content += data
        return bytes(content[:size])

    async def _append(self, content: bytes) -> None:
        limit = int(self._settings.max_media_size)
        if self.received + len(content) > limit:
            raise too_large(limit)
        await asyncio.to_thread(_append, self._path, content)
        self.received += len(content)
        self._progress(self.received, None)


def _append(path: Path, content: bytes) -> None:
    with path.open("ab") as file:
        file.write(content)
