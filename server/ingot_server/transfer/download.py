"""The download of one file over HTTP into scratch, whole or not at all.

    request -> check the headers -> receive -> broken: request the rest, from the next byte on
                                            -> all of it: complete

A source that ignores ranges, or compresses the file, sends everything again. The bytes that scratch
already has are then compared by their hash and not written twice, so an upload that reads the file
continues.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from ingot.v1 import reason_pb2
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.library.manifest_pb2 import SourceVersion
from ingot_server.transfer.body import Body, ContentChanged
from ingot_server.transfer.content import check_content
from ingot_server.transfer.fetch import Fetcher, stalled
from ingot_server.transfer.headers import (
    ByteRange,
    Version,
    check_end,
    content_range,
    file_name,
    media_type,
    status_failure,
)
from ingot_server.transfer.response_body import BROKEN, ResponseBody
from ingot_server.transfer.scratch import ScratchFile

# A broken transfer is resumed this often, and again as often after this many more bytes.
RESUMPTIONS: Final = 6
WORTHWHILE_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Downloaded:
    """A file that is completely in scratch, and the facts that its source gave."""

    final_url: str
    """Where it was fetched from, after redirects."""
    filename: str
    """For people; may be empty."""
    content_type: str
    """As announced, without parameters, in lower case; may be empty."""
    size_bytes: int
    sha256: str
    http_etag: str
    http_last_modified: str
    delivered: bool
    """Whether the source said where the file ends, by its length or its last chunk (RFC 9112)."""


async def download(
    url: str,
    scratch_file: ScratchFile,
    *,
    proxy_url: str,
    settings: Settings,
    trusted: tuple[str, int] | None = None,
    stored: SourceVersion | None = None,
    progress: Callable[[int, int | None], None] = lambda _done, _total: None,
    on_name: Callable[[str], None] = lambda _name: None,
) -> Downloaded | None:
    """Download `url` into `scratch_file` and complete it; None if `stored` is still current.

    `stored` is the version that a stored copy has; None if there is no copy. `trusted` is the
    address that the grant in `proxy_url` covers. `progress` is called with the received and, if
    known, the total bytes: once when the headers are accepted, then at most ten times a second, and
    at the end. Before that, `on_name` is called with the file's name, if the headers or the URL say
    one. A failure or a cancellation also fails the file, which ends its readers, and closes the
    connection at once.
    """
    transfer = _Transfer(url, scratch_file, settings, progress, on_name)
    try:
        async with asyncio.timeout(settings.download_timeout.total_seconds()) as limit:
            async with Fetcher(
                settings, proxy_url, trusted=trusted, tries_as_browser=trusted is None
            ) as fetcher:
                return await transfer.receive(fetcher, stored or SourceVersion())
    except TimeoutError as exc:
        if not limit.expired():
            scratch_file.fail(exc)
            raise
        failure = Failure(
            reason_pb2.REASON_STAGE_TIMEOUT,
            f"The download took longer than {settings.download_timeout}. "
            "INGOT_DOWNLOAD_TIMEOUT sets the limit.",
            metadata={"stage": "DOWNLOADING"},
        )
        scratch_file.fail(failure)
        raise failure from exc
    except BaseException as exc:
        scratch_file.fail(exc)
        raise


class _Transfer:
    """The requests for one file, repeated after a response that breaks off."""

    def __init__(
        self,
        url: str,
        scratch_file: ScratchFile,
        settings: Settings,
        progress: Callable[[int, int | None], None],
        on_name: Callable[[str], None],
    ) -> None:
        self._url = url
        self._file = scratch_file
        self._settings = settings
        self._progress = progress
        self._on_name = on_name
        self._host = urlsplit(url).hostname or ""
        self._body = Body(scratch_file, settings, self._host, progress)
        self._final_url = url
        self._filename = ""
        self._content_type = ""
        self._is_chunked = False
        self._is_coded = False
        self._is_open_ended = False
        self._version = Version("", "")

    async def receive(self, fetcher: Fetcher, stored: SourceVersion) -> Downloaded | None:
        conditions = {
            "If-None-Match": stored.http_etag,
            "If-Modified-Since": stored.http_last_modified,
        }
        headers = {name: value for name, value in conditions.items() if value}
        async with fetcher.get(self._url, headers) as (final_url, response):
            if response.status == 304 and headers:
                return None
            broken = await self._begin(final_url, response)
        spent, mark = 0, 0
        while broken is not None:
            if self._body.received - mark >= WORTHWHILE_BYTES:
                spent, mark = 0, self._body.received
            if spent >= RESUMPTIONS:
                raise self._given_up(broken) from broken
            await asyncio.sleep(0.05 * 2**spent)
            before = self._body.received
            # A redirect may lead elsewhere the next time, or its target's signature run out.
            address = self._url if spent % 2 else self._final_url
            responded, broken = await self._resume(fetcher, address)
            # Two responses without a new byte: there is no more to receive.
            spent += RESUMPTIONS // 2 if responded and self._body.received == before else 1
        return await self._complete()

    async def _complete(self) -> Downloaded:
        if not self._body.received:
            raise empty(self._host)
        await self._file.complete()
        self._progress(self._body.received, self._body.received)
        return Downloaded(
            final_url=self._final_url,
            filename=self._filename,
            content_type=self._content_type,
            size_bytes=self._body.received,
            sha256=self._file.sha256,
            http_etag=self._version.etag,
            http_last_modified=self._version.last_modified,
            delivered=self._body.total is not None or self._is_chunked or self._is_coded,
        )

    async def _begin(self, final_url: str, response: aiohttp.ClientResponse) -> Exception | None:
        """Receive a response that has the whole file, or the first part of it."""
        host = urlsplit(final_url).hostname or ""
        byte_range = check_status(response, host)
        self._final_url = final_url
        self._filename = file_name(response.headers, final_url)
        self._content_type = media_type(response.headers)
        self._version = Version.of(response.headers)
        self._is_chunked = "Transfer-Encoding" in response.headers
        body = ResponseBody(response, host)
        self._body.total = None
        if not body.is_coded:
            self._body.set_total(announced_size(response, byte_range))
        try:
            await open_body(response, body, host, self._settings)
        except (*BROKEN, EOFError) as exc:
            return exc
        self._is_coded = body.is_coded
        if byte_range is not None and body.is_coded and not byte_range.is_whole:
            raise status_failure(response.status, response.headers, host)
        if not body.is_coded and self._body.total is None:
            self._body.set_total(announced_size(response, byte_range))
        if self._filename:
            self._on_name(self._filename)
        self._progress(0, self._body.total)
        return await self._receive(body, byte_range)

    async def _receive(
        self, body: ResponseBody, byte_range: ByteRange | None, *, known: int = 0
    ) -> Exception | None:
        """Receive a body; return what broke it, or that the length of the file is still unknown."""
        broken = await self._body.receive(body, known=known)
        if broken is None and byte_range is not None and not body.is_coded:
            self._is_open_ended = self._body.total is None
            if self._is_open_ended:
                return EOFError("The size of the file is unknown.")
        return broken

    async def _resume(self, fetcher: Fetcher, address: str) -> tuple[bool, Exception | None]:
        """Request the missing bytes; return whether there was a response, and what broke it."""
        await self._file.flush()
        headers = {}
        # The ranges of coded content are not those of the file.
        if self._body.received and not self._is_coded:
            headers["Range"] = f"bytes={self._body.received}-"
            if self._version.validator:
                headers["If-Range"] = self._version.validator
        responded = False
        try:
            async with fetcher.get(address, headers) as (final_url, response):
                responded = True
                return True, await self._continue(final_url, response)
        except ContentChanged as exc:
            await self._body.restart()
            return True, exc
        except Failure as exc:
            if responded or not exc.transient or exc.reason == reason_pb2.REASON_STALLED:
                raise
            return False, exc

    async def _continue(self, final_url: str, response: aiohttp.ClientResponse) -> Exception | None:
        if not self._body.received:
            return await self._begin(final_url, response)
        host = urlsplit(final_url).hostname or ""
        changed = self._version.differs(Version.of(response.headers))
        if response.status == 206:
            byte_range = content_range(response.headers)
            if byte_range is None or byte_range.first != self._body.received or changed:
                raise ContentChanged
            if self._body.contradicts(byte_range.total):
                raise ContentChanged
            self._body.set_total(byte_range.total)
            return await self._receive(ResponseBody(response, host, decodes=False), byte_range)
        if response.status == 416:
            return self._end(response, changed=changed)
        if response.status not in {200, 203}:
            failure = status_failure(response.status, response.headers, host)
            # The requested URL may lead to another address of the file.
            if final_url == self._final_url != self._url:
                return failure
            raise failure
        if changed or (not self._is_coded and self._body.contradicts(response.content_length)):
            await self._body.restart()
            return await self._begin(final_url, response)
        return await self._receive(ResponseBody(response, host), None, known=self._body.received)

    def _end(self, response: aiohttp.ClientResponse, *, changed: bool) -> Exception | None:
        """Return None if a response that has no more bytes says that the file is whole."""
        byte_range = content_range(response.headers)
        total = byte_range.total if byte_range is not None else None
        is_end = self._is_open_ended if total is None else total == self._body.received
        if changed or not is_end or self._body.contradicts(total):
            return ContentChanged()
        self._body.set_total(self._body.received)
        return None

    def _given_up(self, broken: Exception) -> Failure:
        if isinstance(broken, Failure):
            return broken
        if self._body.total is not None:
            return Failure(
                reason_pb2.REASON_TRUNCATED,
                f"{self._host} announced {self._body.total} bytes, and after "
                f"{self._body.received} bytes it sent no more.",
            )
        return Failure(
            reason_pb2.REASON_SOURCE_UNREACHABLE,
            f"{self._host} broke off the transfer after {self._body.received} bytes, and it could "
            "not be resumed. Try again later.",
        )


async def open_body(
    response: aiohttp.ClientResponse, body: ResponseBody, host: str, settings: Settings
) -> None:
    """Raise Failure unless the body of `response` is a file; PageResponse if it may be extracted.

    Raises what `ResponseBody.start` does when the beginning breaks off.
    """
    seconds = settings.stall_timeout.total_seconds()
    try:
        async with asyncio.timeout(seconds):
            start = await body.start()
    except TimeoutError as exc:
        raise stalled(host, seconds) from exc
    if not start:
        raise empty(host)
    check_content(start, response.headers, host)


def check_status(response: aiohttp.ClientResponse, host: str) -> ByteRange | None:
    """Raise Failure unless the response begins with the first byte of a file; return its range.

    Some servers send 206 although no range was requested. The range is None for a whole file.
    Radio, which has no end, is a LiveResponse.
    """
    if response.status in {204, 205}:
        raise empty(host)
    byte_range = content_range(response.headers) if response.status == 206 else None
    begins = response.status in {200, 203} or (byte_range is not None and byte_range.first == 0)
    if not begins:
        raise status_failure(response.status, response.headers, host)
    check_end(response.headers, host)
    return byte_range


def announced_size(response: aiohttp.ClientResponse, byte_range: ByteRange | None) -> int | None:
    """Return the size of the whole file, if the response says it."""
    return response.content_length if byte_range is None else byte_range.total


def empty(host: str) -> Failure:
    """Return the failure of a host that sent nothing."""
    return Failure(reason_pb2.REASON_NOT_MEDIA, f"{host} sent an empty file.")
