"""A real web server whose paths behave well or badly, with a log of what they were asked."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

CHUNK = 1 << 16


@dataclass
class Page:
    """What one path answers. Change its fields at any time: the next request sees them."""

    content: bytes = b""
    size: int = 0  # instead of content: so many zero bytes, made as they go out
    status: int = 200
    content_type: str | None = "video/mp4"
    headers: Mapping[str, str] = field(default_factory=dict)
    etag: str = ""
    last_modified: str = ""
    ranges: bool = True  # answer Range with 206, and conditions with 304
    chunked: bool = False  # do not announce a length
    announce: int | None = None  # announce this length, whatever is sent
    surplus: bytes = b""  # sent after the announced length
    rate: float = 0  # bytes a second; 0: as fast as it goes
    pace: Callable[[int], Awaitable[None]] | None = None  # awaited before each piece, at its offset
    breaks: list[int] = field(default_factory=list)  # each ends one answer after so many bytes
    breaks_always: int | None = None  # ends every answer after so many bytes
    silent_after: int | None = None  # sends so many bytes, then nothing; -1: not even headers
    redirect: str = ""
    endless: bool = False
    gate: asyncio.Event | None = None  # body waits for it, behind its first `held_after` bytes
    held_after: int = 0
    doors: list[asyncio.Event] = field(default_factory=list)  # each lets one answer begin
    raw: bytes = b""  # the whole answer, as it is
    refuses_robots: int = 0  # the status for whoever does not look like a browser
    after_first: Page | None = None  # what all requests but the first get


@dataclass
class LoggedRequest:
    """One request in the log."""

    method: str
    path: str
    headers: dict[str, str]
    sent: int = 0  # bytes of the body
    status: int = 0
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Origin:
    """Serves `pages`; `log` has every request in order."""

    def __init__(self) -> None:
        self.pages: dict[str, Page] = {}
        self.log: list[LoggedRequest] = []
        self.base = ""
        self.open_requests = 0
        self.runner = web.AppRunner(
            self._app(), access_log=None, handler_cancellation=True, shutdown_timeout=0.1
        )
        self._stopping = asyncio.Event()
        self._arrived = asyncio.Condition()

    @property
    def open_connections(self) -> int:
        server = self.runner.server
        return len(server.connections) if server is not None else 0

    def serve(self, path: str, page: Page) -> str:
        """Puts `page` at `path`; its URL."""
        self.pages[path] = page
        return self.url(path)

    def url(self, path: str) -> str:
        return self.base + path

    def gets(self, path: str) -> list[LoggedRequest]:
        return [asked for asked in self.log if asked.path == path and asked.method == "GET"]

    def bytes_sent(self, path: str) -> int:
        return sum(asked.sent for asked in self.log if asked.path == path)

    async def arrived(self, count: int = 1) -> None:
        """Waits until `count` requests came."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: len(self.log) >= count)

    async def asked_for(self, *paths: str) -> None:
        """Waits until each of `paths` was asked for with GET."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: all(map(self.gets, paths)))

    async def idle(self) -> None:
        """Waits until no answer is under way: every one went out or lost its connection."""
        for asked in list(self.log):
            await asked.ended.wait()

    def _app(self) -> web.Application:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        return app

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        asked = LoggedRequest(request.method, request.raw_path, dict(request.headers))
        self.log.append(asked)
        async with self._arrived:
            self._arrived.notify_all()
        self.open_requests += 1
        try:
            return await self._answer(request, asked)
        finally:
            self.open_requests -= 1
            asked.ended.set()

    async def _answer(self, request: web.Request, asked: LoggedRequest) -> web.StreamResponse:
        page = self.pages.get(request.raw_path.partition("?")[0])
        if page is None:
            asked.status = 404
            return web.Response(status=404)
        if page.after_first is not None and len(self.gets(request.raw_path)) > 1:
            page = page.after_first
        if page.refuses_robots and "Mozilla" not in request.headers["User-Agent"]:
            asked.status = page.refuses_robots
            return web.json_response({"error": 1010}, status=asked.status)
        if page.silent_after == -1:
            await self._stopping.wait()
        if page.doors:
            await page.doors.pop(0).wait()
        transport = request.transport
        assert transport is not None
        if page.raw:
            assert isinstance(transport, asyncio.WriteTransport)
            transport.write(page.raw)
            transport.close()
            return web.Response()
        response = self._headers(request, page)
        asked.status = response.status
        first, end = 0, page.size or len(page.content)
        if page.status == 200 and response.status == 206:
            found = response.headers["Content-Range"]
            first, last = map(int, found.split()[1].partition("/")[0].split("-"))
            end = end if "Content-Range" in page.headers else last + 1
        if page.redirect or response.status in {304, 416} or request.method == "HEAD":
            return response
        await response.prepare(request)
        if page.gate is not None:
            await response.write(page.content[first : first + page.held_after])
            first += page.held_after
            await page.gate.wait()
        await self._body(response, transport, page, asked, first, end)
        return response

    def _headers(self, request: web.Request, page: Page) -> web.StreamResponse:
        size = page.size or len(page.content)
        headers = dict(page.headers)
        if page.content_type is not None:
            headers["Content-Type"] = page.content_type
        if page.etag:
            headers["ETag"] = page.etag
        if page.last_modified:
            headers["Last-Modified"] = page.last_modified
        if page.redirect:
            status = page.status if page.status != 200 else 302
            return web.Response(status=status, headers={**headers, "Location": page.redirect})
        if page.status != 200:
            return _length(web.StreamResponse(status=page.status, headers=headers), size, page)
        asked_etag = request.headers.get("If-None-Match", "")
        asked_date = request.headers.get("If-Modified-Since", "")
        if page.ranges and (
            asked_etag == page.etag if asked_etag else asked_date == page.last_modified != ""
        ):
            return web.Response(status=304, headers=headers)
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
        condition = request.headers.get("If-Range", "")
        current = not condition or condition in {page.etag, page.last_modified}
        if page.ranges and match and current:
            first = int(match[1])
            if first >= size:
                headers["Content-Range"] = f"bytes */{size}"
                return web.Response(status=416, headers=headers)
            end = min(size, int(match[2]) + 1) if match[2] else size
            headers.setdefault("Content-Range", f"bytes {first}-{end - 1}/{size}")
            return _length(web.StreamResponse(status=206, headers=headers), end - first, page)
        return _length(web.StreamResponse(headers=headers), size, page)

    async def _body(
        self,
        response: web.StreamResponse,
        transport: asyncio.BaseTransport,
        page: Page,
        asked: LoggedRequest,
        first: int,
        end: int,
    ) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        limit = page.breaks.pop(0) if page.breaks else page.breaks_always
        zeros = bytes(CHUNK)
        position = first
        while page.endless or position < end:
            count = CHUNK if page.endless else min(CHUNK, end - position)
            if page.rate:
                count = max(1, min(count, int(page.rate / 20)))
            await _wait_for_turn(page, position, count)
            for stop in (limit, page.silent_after):
                if stop is not None:
                    count = min(count, stop - asked.sent)
            if count:
                part = page.content[position : position + count] or zeros[:count]
                await response.write(part)
                asked.sent += len(part)
                position += len(part)
            if asked.sent == page.silent_after:
                await self._stopping.wait()
            if asked.sent == limit:
                break
        if page.surplus:
            transport.write(page.surplus)
        if position < end or page.announce is not None or page.surplus:
            transport.close()  # what was written goes out, then the connection ends


async def _wait_for_turn(page: Page, position: int, count: int) -> None:
    """Wait until the next `count` bytes may go out."""
    if page.rate:
        await asyncio.sleep(count / page.rate)
    if page.pace is not None:
        await page.pace(position)


def _length(response: web.StreamResponse, size: int, page: Page) -> web.StreamResponse:
    if page.announce is not None:
        response.content_length = page.announce
    elif not page.chunked and not page.endless:
        response.content_length = size
    return response


@asynccontextmanager
async def running_origin(tls: ssl.SSLContext | None = None) -> AsyncIterator[Origin]:
    """An origin on a free port of 127.0.0.1."""
    origin = Origin()
    await origin.runner.setup()
    await web.TCPSite(origin.runner, "127.0.0.1", 0, ssl_context=tls).start()
    host, port = origin.runner.addresses[0][:2]
    origin.base = f"{'https' if tls else 'http'}://{host}:{port}"
    try:
        yield origin
    finally:
        origin._stopping.set()
        await origin.runner.cleanup()
