"""Receives one file over HTTP into scratch, whole or not at all.

    ask -> look at the headers -> receive -> broken? ask for the rest, from the byte that is next
                                          -> all of it: complete

A source that ignores ranges sends everything again: what is there already is compared with it by
its hash and not written twice, so an upload that follows the file goes on undisturbed.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import aiohttp
from aiohttp.http import HttpProcessingError

from ingot.v1 import reason_pb2
from ingot.v1.media_pb2 import Freshness
from ingot.v1.reason_pb2 import Reason
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.pipeline.answer import (
    ManifestAnswer,
    PageAnswer,
    check_content,
    content_range,
    file_name,
    is_feed,
    is_manifest,
    media_type,
    refusal,
)
from ingot_server.pipeline.fetch import Fetcher, stalled
from ingot_server.pipeline.scratch import ScratchFile

# A broken transfer is taken up this often before this much more of it came.
RESUMPTIONS: Final = 6
WORTHWHILE_BYTES: Final = 1 << 20
_PROGRESS_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class Downloaded:
    """A file that is completely in scratch, and what its source said about it."""

    final_url: str
    """Where it came from after redirects."""
    filename: str
    """For people; may be empty."""
    content_type: str
    """As announced, without parameters, in lower case; may be empty."""
    size_bytes: int
    sha256: str
    http_etag: str
    http_last_modified: str


async def download(
    url: str,
    scratch_file: ScratchFile,
    *,
    proxy_url: str,
    settings: Settings,
    trusted: tuple[str, int] | None = None,
    freshness: Freshness | None = None,
    progress: Callable[[int, int | None], None] = lambda _done, _total: None,
) -> Downloaded | None:
    """Receives `url` into `scratch_file` and completes it; None: `freshness` is still current.

    `trusted` is what the pass in `proxy_url` was issued for. `progress` gets the bytes received
    and, when known, the bytes in all: once when the headers are accepted, then at most ten times a
    second, and at the end. A failure or a cancellation also fails the file, so that its followers
    end, and closes the connection at once.
    """
    transfer = _Transfer(url, scratch_file, settings, progress)
    try:
        async with asyncio.timeout(settings.download_timeout.total_seconds()) as limit:
            async with Fetcher(settings, proxy_url, trusted=trusted) as fetcher:
                return await transfer.run(fetcher, freshness or Freshness())
    except TimeoutError as exc:
        if not limit.expired():
            scratch_file.fail(exc)
            raise
        failure = Failure(
            reason_pb2.REASON_STAGE_TIMEOUT,
            f"Receiving the file took longer than {settings.download_timeout}. "
            "INGOT_DOWNLOAD_TIMEOUT sets the limit.",
            metadata={"stage": "DOWNLOADING"},
        )
        scratch_file.fail(failure)
        raise failure from exc
    except BaseException as exc:
        scratch_file.fail(exc)
        raise


class _Changed(Exception):
    """The source sends another content than before."""


@dataclass(frozen=True, slots=True)
class _Version:
    etag: str
    last_modified: str

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> _Version:
        return cls(headers.get("ETag", ""), headers.get("Last-Modified", ""))

    @property
    def validator(self) -> str:
        """For If-Range: a strong entity tag, else the date (RFC 9110, section 13.1.5)."""
        strong = self.etag if self.etag.startswith('"') else ""
        return strong or self.last_modified

    def differs(self, other: _Version) -> bool:
        """Whether these are surely two versions; what only one of them has tells nothing."""
        if self.etag and other.etag:
            return self.etag.removeprefix("W/") != other.etag.removeprefix("W/")
        return bool(self.last_modified and other.last_modified) and (
            self.last_modified != other.last_modified
        )


class _Transfer:
    """One file on its way; `_received` bytes of it were handed to scratch."""

    def __init__(
        self,
        url: str,
        scratch_file: ScratchFile,
        settings: Settings,
        progress: Callable[[int, int | None], None],
    ) -> None:
        self._url = url
        self._file = scratch_file
        self._settings = settings
        self._progress = progress
        self._host = urlsplit(url).hostname or ""
        self._final_url = url
        self._filename = ""
        self._content_type = ""
        self._version = _Version("", "")
        self._received = 0
        self._total: int | None = None
        self._to_compare = 0
        self._compared = hashlib.sha256()
        self._next_progress = 0.0
        self._deadline = 0.0
        self._still_due = 0

    async def run(self, fetcher: Fetcher, freshness: Freshness) -> Downloaded | None:
        conditions = {
            "If-None-Match": freshness.http_etag,
            "If-Modified-Since": freshness.http_last_modified,
        }
        headers = {name: value for name, value in conditions.items() if value}
        async with fetcher.get(self._url, headers) as (final_url, response):
            if response.status == 304 and headers:
                return None
            broken = await self._begin(final_url, response)
        spent, mark = 0, 0
        while broken is not None:
            if self._received - mark >= WORTHWHILE_BYTES:
                spent, mark = 0, self._received
            if spent >= RESUMPTIONS:
                raise self._given_up(broken) from broken
            await asyncio.sleep(0.05 * 2**spent)
            before = self._received
            # A redirect may lead elsewhere the next time, or its target's signature run out.
            address = self._url if spent % 2 else self._final_url
            answered, broken = await self._resume(fetcher, address)
            # Two answers without one new byte: there is no more to be had.
            spent += RESUMPTIONS // 2 if answered and self._received == before else 1
        return await self._complete()

    async def _complete(self) -> Downloaded:
        if not self._received:
            raise self._empty()
        await self._file.complete()
        self._progress(self._received, self._received)
        return Downloaded(
            final_url=self._final_url,
            filename=self._filename,
            content_type=self._content_type,
            size_bytes=self._received,
            sha256=self._file.sha256,
            http_etag=self._version.etag,
            http_last_modified=self._version.last_modified,
        )

    async def _begin(self, final_url: str, response: aiohttp.ClientResponse) -> Exception | None:
        """Takes an answer that holds the whole file."""
        host = urlsplit(final_url).hostname or ""
        if response.status in {204, 205}:
            raise self._empty()
        if response.status not in {200, 203}:
            raise refusal(response.status, response.headers, host)
        await self._check_content(response, host)
        self._final_url = final_url
        self._filename = file_name(response.headers, final_url)
        self._content_type = media_type(response.headers)
        self._version = _Version.of(response.headers)
        self._total = None
        self._announce(response.content_length)
        if self._total == 0:
            raise self._empty()
        self._progress(0, self._total)
        return await self._receive(response)

    async def _check_content(self, response: aiohttp.ClientResponse, host: str) -> None:
        """Raises Failure for what is no file; PageAnswer for what the extractor may read."""
        try:
            check_content(response.headers, host)
        except PageAnswer:
            raise
        except Failure as failure:
            # Manifests are sent as plain text too, and feeds as some XML.
            if failure.reason == reason_pb2.REASON_NOT_MEDIA:
                with contextlib.suppress(TimeoutError, aiohttp.ClientError, OSError):
                    async with asyncio.timeout(self._settings.stall_timeout.total_seconds()):
                        start = await response.content.readany()
                        self._refuse_manifest(start)
                        if is_feed(start):
                            raise PageAnswer(
                                failure.reason, failure.message, metadata=failure.metadata
                            ) from failure
            raise

    def _refuse_manifest(self, start: bytes) -> None:
        if is_manifest(start):
            raise ManifestAnswer(
                reason_pb2.REASON_NOT_MEDIA, f"{self._host} sends a manifest, which is no media."
            )

    async def _resume(self, fetcher: Fetcher, address: str) -> tuple[bool, Exception | None]:
        """Asks for what is missing: whether an answer came, and what broke it."""
        await self._file.flush()
        headers = {}
        if self._received:
            headers["Range"] = f"bytes={self._received}-"
            if self._version.validator:
                headers["If-Range"] = self._version.validator
        answered = False
        try:
            async with fetcher.get(address, headers) as (final_url, response):
                answered = True
                return True, await self._continue(final_url, response)
        except _Changed as exc:
            await self._restart()
            return True, exc
        except Failure as exc:
            if answered or not exc.transient or exc.reason == reason_pb2.REASON_STALLED:
                raise
            return False, exc

    async def _continue(self, final_url: str, response: aiohttp.ClientResponse) -> Exception | None:
        if not self._received:
            return await self._begin(final_url, response)
        changed = self._version.differs(_Version.of(response.headers))
        if response.status == 206:
            span = content_range(response.headers)
            if span is None or span.first != self._received or changed:
                raise _Changed
            if None not in (self._total, span.total) and self._total != span.total:
                raise _Changed
            self._announce(span.total)
            return await self._receive(response)
        if response.status == 416:
            return _Changed()
        if response.status not in {200, 203}:
            failure = refusal(response.status, response.headers, urlsplit(final_url).hostname or "")
            # Another way to the file may still be open.
            if final_url == self._final_url != self._url:
                return failure
            raise failure
        length = response.content_length
        if changed or (None not in (self._total, length) and self._total != length):
            await self._restart()
            return await self._begin(final_url, response)
        return await self._receive(response, known=self._received)

    async def _restart(self) -> None:
        if self._file.followed:
            raise self._failure(
                reason_pb2.REASON_SOURCE_FAILED,
                "changed the file while it was received. It is fetched anew",
            )
        await self._file.restart()
        self._received = 0

    def _announce(self, total: int | None) -> None:
        """Notes how long the file is, if it fits."""
        if total is None:
            return
        if total > self._settings.max_media_size:
            raise self._too_large(f"is {total} bytes long")
        self._total = total
        self._file.expect(total - self._received)

    async def _receive(
        self, response: aiohttp.ClientResponse, *, known: int = 0
    ) -> Exception | None:
        """Takes bytes until the answer ends; what broke it, or None when nothing did.

        The first `known` bytes are in scratch already and only compared.
        """
        self._to_compare, self._compared = known, hashlib.sha256()
        self._renew_deadline()
        while True:
            try:
                async with asyncio.timeout_at(self._deadline):
                    data = await response.content.readany()
            except TimeoutError as exc:
                seconds = self._settings.stall_timeout.total_seconds()
                raise stalled(self._host, seconds) from exc
            except (aiohttp.ClientError, HttpProcessingError, OSError) as exc:
                return exc
            if not data:
                break
            await self._take(data)
        missing = self._total is not None and self._received < self._total
        return EOFError("The answer ended early.") if missing or self._to_compare else None

    async def _take(self, data: bytes) -> None:
        self._still_due -= len(data)
        if self._still_due <= 0:
            self._renew_deadline()
        if self._to_compare:
            data = self._compare(data)
            if not data:
                return
        if not self._received:
            self._refuse_manifest(data)
        self._received += len(data)
        if self._received > self._settings.max_media_size:
            raise self._too_large("is longer")
        if self._total is not None and self._received > self._total:
            raise self._failure(
                reason_pb2.REASON_TRUNCATED,
                f"announced {self._total} bytes and sent more",
            )
        loop = asyncio.get_running_loop()
        before = loop.time()
        await self._file.write(data)
        after = loop.time()
        self._deadline += after - before  # time of the disk, not of the source
        if after >= self._next_progress:
            self._next_progress = after + _PROGRESS_SECONDS
            self._progress(self._received, self._total)

    def _compare(self, data: bytes) -> bytes:
        """Holds `data` against what scratch has; what goes beyond that is left."""
        known, rest = data[: self._to_compare], data[self._to_compare :]
        self._compared.update(known)
        self._to_compare -= len(known)
        if not self._to_compare and self._compared.hexdigest() != self._file.sha256:
            raise _Changed
        return rest

    def _renew_deadline(self) -> None:
        """The next bytes that stall_rate makes of stall_timeout are due within stall_timeout."""
        seconds = self._settings.stall_timeout.total_seconds()
        self._still_due = max(1, int(self._settings.stall_rate * seconds))
        self._deadline = asyncio.get_running_loop().time() + seconds

    def _given_up(self, broken: Exception) -> Failure:
        if isinstance(broken, Failure):
            return broken
        if self._total is not None:
            return self._failure(
                reason_pb2.REASON_TRUNCATED,
                f"announced {self._total} bytes, and after {self._received} no more came",
            )
        return self._failure(
            reason_pb2.REASON_SOURCE_UNREACHABLE,
            f"broke the transfer after {self._received} bytes, and it could not be taken up again",
        )

    def _empty(self) -> Failure:
        return self._failure(reason_pb2.REASON_NOT_MEDIA, "sent an empty file")

    def _too_large(self, what: str) -> Failure:
        limit = int(self._settings.max_media_size)
        return Failure(
            reason_pb2.REASON_TOO_LARGE,
            f"The file {what}; at most {limit} bytes are taken. INGOT_MAX_MEDIA_SIZE sets this.",
            metadata={"limit_bytes": str(limit)},
        )

    def _failure(self, reason: Reason.ValueType, what: str) -> Failure:
        return Failure(reason, f"{self._host} {what}.")
