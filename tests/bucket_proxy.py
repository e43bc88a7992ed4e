"""A proxy in front of the S3 server: whole jobs go through it, and a test can refuse requests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

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
        self._held_back = asyncio.Event()
        self._passes = asyncio.Event()
        self._passes.set()
        self.refuses: Matches = lambda _method, _path: False
        """Requests that do not reach the bucket."""
        self.denies_answer: Matches = lambda _method, _path: False
        """Requests that the bucket carries out and that are answered with a refusal."""
        self.holds: Matches = lambda _method, _path: False
        """Requests that wait for `release`."""
        self.delivers_late: Matches = lambda _method, _path: False
        """Requests that are answered with a refusal at once, and reach the bucket in `deliver`."""
        self._undelivered: list[tuple[str, str, CIMultiDictProxy[str], bytes]] = []

    def release(self) -> None:
        """Lets everything through that was held."""
        self._passes.set()

    def hold(self, matches: Matches) -> None:
        """Keeps requests waiting until `release`."""
        self.holds = matches
        self._held_back.clear()
        self._passes.clear()

    async def held(self) -> None:
        """Waits until a request is being held."""
        await self._held_back.wait()

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
            self._held_back.set()
            await self._passes.wait()
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
            kept = {name: text for name, text in answer.headers.items() if name not in _HOP_BY_HOP}
            response = web.StreamResponse(status=answer.status, headers=kept)
            await response.prepare(request)
            async for data in answer.content.iter_chunked(1 << 16):
                await response.write(data)
            return response


def _denied() -> web.Response:
    return web.Response(status=403, body=_DENIED, content_type="application/xml")


def is_manifest_put(method: str, path: str) -> bool:
    """Whether a request is a commit: the PUT of a manifest."""
    return method == "PUT" and "/media.json" in path


@asynccontextmanager
async def bucket_behind_proxy(settings: Settings) -> AsyncIterator[tuple[BucketProxy, Settings]]:
    """A proxy in front of the bucket, and the settings that lead through it."""
    proxy = BucketProxy(settings.s3_endpoint)
    async with web_server(proxy.forward) as address:
        try:
            yield proxy, settings.replace(s3_endpoint=address)
        finally:
            proxy.release()
