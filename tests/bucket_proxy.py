"""A proxy in front of the S3 server: whole jobs go through it, and a test can refuse requests."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import aiohttp
from aiohttp import web
from multidict import CIMultiDictProxy
from yarl import URL

from ingot_server.config import Settings
from tests.web_server import web_server

Matches = Callable[[str, str], bool]
"""Whether a fault concerns a request, given its method and its path with the query."""

_HOP_BY_HOP = {"Connection", "Transfer-Encoding", "Keep-Alive"}
_DENIED = b"<Error><Code>AccessDenied</Code><Message>Denied by the test.</Message></Error>"


class BucketProxy:
    """Forwards every request unless a fault concerns it.

    S3 clients repeat what fails with 5xx, so a refusal is a 403, which they do not repeat.
    """

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._held_back = asyncio.Condition()
        self._holding = 0
        self._passes = asyncio.Event()
        self._passes.set()
        self.refuses: Matches = lambda _method, _path: False
        """Requests that do not reach the bucket."""
        self.denies_answer: Matches = lambda _method, _path: False
        """Requests that the bucket carries out and that are answered with a refusal."""
        self.holds: Matches = lambda _method, _path: False
        """Requests that wait for `release`."""
        self.stalls: Matches = lambda _method, _path: False
        """Requests whose answers stop after their first byte until `release`."""
        self.delivers_late: Matches = lambda _method, _path: False
        """Requests that are answered with a refusal at once, and reach the bucket in `deliver`."""
        self.clock_offset = timedelta(0)
        """How far the server's clock seems to be ahead of what it is."""
        self.before_repetition: Callable[[], Awaitable[object]] | None = None
        """What to do before the next PUT, which the bucket carries out, is answered with 503."""
        self._undelivered: list[tuple[str, str, CIMultiDictProxy[str], bytes]] = []

    def release(self) -> None:
        """Lets everything through that was held."""
        self._passes.set()

    def hold(self, matches: Matches) -> None:
        """Keeps requests waiting until `release`."""
        self.holds = matches
        self._holding = 0
        self._passes.clear()

    def stall(self, matches: Matches) -> None:
        """Stops answers after their first byte until `release`."""
        self.stalls = matches
        self._holding = 0
        self._passes.clear()

    async def held(self, requests: int = 1) -> None:
        """Waits until so many requests have been held or stalled since `hold` or `stall`."""
        async with self._held_back:
            await self._held_back.wait_for(lambda: self._holding >= requests)

    async def _hold(self) -> None:
        async with self._held_back:
            self._holding += 1
            self._held_back.notify_all()
        await self._passes.wait()

    async def deliver(self) -> list[int]:
        """Send what `delivers_late` has kept, in order; return the statuses of the bucket."""
        statuses, kept, self._undelivered = [], self._undelivered, []
        async with aiohttp.ClientSession() as session:
            for method, path, headers, body in kept:
                url = URL(f"http://{self._endpoint}{path}", encoded=True)
                async with session.request(method, url, headers=headers, data=body) as answer:
                    statuses.append(answer.status)
        return statuses

    async def forward(self, request: web.Request) -> web.StreamResponse:
        method, path = request.method, request.raw_path
        body = await request.read()
        if self.holds(method, path) and not self._passes.is_set():
            await self._hold()
        if self.refuses(method, path):
            return _denied()
        if self.delivers_late(method, path):
            self._undelivered.append((method, path, request.headers, body))
            return _denied()
        async with (
            aiohttp.ClientSession(auto_decompress=False) as session,
            session.request(
                method,
                URL(f"http://{self._endpoint}{path}", encoded=True),
                headers=request.headers,
                data=body,
                allow_redirects=False,
            ) as answer,
        ):
            if self.denies_answer(method, path):
                return _denied()
            if self.before_repetition is not None and method == "PUT":
                act, self.before_repetition = self.before_repetition, None
                await act()
                return web.Response(status=503)
            kept = {name: text for name, text in answer.headers.items() if name not in _HOP_BY_HOP}
            kept["Date"] = format_datetime(datetime.now(UTC) + self.clock_offset, usegmt=True)
            response = web.StreamResponse(status=answer.status, headers=kept)
            await response.prepare(request)
            if self.stalls(method, path) and not self._passes.is_set():
                await response.write(await answer.content.readexactly(1))
                await self._hold()
            async for data in answer.content.iter_chunked(1 << 16):
                await response.write(data)
            return response


def _denied() -> web.Response:
    return web.Response(status=403, body=_DENIED, content_type="application/xml")


def is_manifest_put(method: str, path: str) -> bool:
    """Whether a request is a commit: the PUT of a manifest."""
    return method == "PUT" and "/media.json" in path


@asynccontextmanager
async def bucket_behind_proxy(
    settings: Settings, *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[BucketProxy, Settings]]:
    """A proxy in front of the bucket, and the settings that lead through it."""
    proxy = BucketProxy(settings.s3_endpoint)
    async with web_server(proxy.forward, tls=tls) as address:
        try:
            yield proxy, settings.replace(s3_endpoint=address)
        finally:
            proxy.release()
