"""The way to the bucket: an HTTP proxy with the faults of networks and of other proxies.

It also is the witness of the commits: `log` has every PUT of a manifest that the bucket carried
out, in the order in which it did.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from urllib.parse import unquote

import aiohttp
from aiohttp import web
from google.protobuf import json_format
from multidict import CIMultiDictProxy
from yarl import URL

from ingot_server.asyncio_tasks import cancel_and_wait
from ingot_server.library.manifest_pb2 import Manifest
from tests.bucket_proxy import is_manifest_put
from tests.web_server import web_server

_HOP_BY_HOP = {"Connection", "Transfer-Encoding", "Keep-Alive"}
_CHANGES = {"PUT", "DELETE"}
_WRITES = {"PUT", "POST", "DELETE"}
_CHUNK = 1 << 16

AfterWrite = Callable[[str, str, int], None]
"""Gets the method, the path and the port from which the request came."""


@dataclass(frozen=True, slots=True)
class Commit:
    """The PUT of a manifest or of a tombstone that the bucket has carried out, or its DELETE."""

    media_id: str
    manifest: Manifest
    etag: str
    time: float
    """time.time() when it was done."""
    is_late: bool
    """Whether its sender had been told before that it failed."""

    @property
    def is_tombstone(self) -> bool:
        """Whether the media item is deleted by it."""
        return self.manifest.HasField("tombstone")

    @property
    def job_id(self) -> str:
        """The job that made the blob; empty for a tombstone."""
        name = self.manifest.media.blob.url.rpartition("/")[2]
        return name.rpartition("-")[0]


@dataclass
class Weather:
    """The faults of the way to the bucket, as they are now."""

    is_cut: bool = False
    delay: float = 0.0
    """Seconds that each request takes longer."""
    errors: float = 0.0
    """Share of the requests that are answered with 503, and do not reach the bucket."""
    late: float = 0.0
    """Share of the PUTs that are answered with an error before they are delivered."""
    late_by: tuple[float, float] = (0.5, 4.0)
    """The shortest and the longest time until a late PUT is delivered, in seconds."""
    late_manifests_only: bool = True


class Gateway:
    """Forwards requests to the bucket through the `weather`."""

    def __init__(self, endpoint: str, chance: random.Random) -> None:
        self.weather = Weather()
        self.log: list[Commit] = []
        self.late = 0
        """How many PUTs were delivered late."""
        self._after_writes: list[AfterWrite] = []
        self._endpoint = endpoint
        self._chance = chance
        self._session: aiohttp.ClientSession | None = None
        self._deliveries: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        connector = aiohttp.TCPConnector(limit=0)
        self._session = aiohttp.ClientSession(auto_decompress=False, connector=connector)

    async def close(self) -> None:
        await cancel_and_wait(*self._deliveries)
        if self._session is not None:
            await self._session.close()

    @contextmanager
    def after_writes(self, act: AfterWrite) -> Iterator[None]:
        """Call `act` when the bucket has carried a write out, before its sender gets the answer."""
        self._after_writes.append(act)
        try:
            yield
        finally:
            self._after_writes.remove(act)

    async def delivered(self) -> None:
        """Wait until everything that is late has arrived."""
        if self._deliveries:
            await asyncio.wait(self._deliveries)

    async def forward(self, request: web.Request) -> web.StreamResponse:
        method, path, weather = request.method, request.raw_path, self.weather
        body = await request.read()
        if weather.is_cut:
            return _abort(request)
        if weather.delay:
            await asyncio.sleep(weather.delay * self._chance.uniform(0.5, 1.5))
        if self._chance.random() < weather.errors:
            return web.Response(status=503)
        if self._may_be_late(method, path) and self._chance.random() < weather.late:
            return self._deliver_late(request, body)
        try:
            async with self._ask(method, path, request.headers, body) as answer:
                kept = {
                    name: text for name, text in answer.headers.items() if name not in _HOP_BY_HOP
                }
                self._note(method, path, body, answer, is_late=False)
                if method in _WRITES and answer.status < 300 and request.transport is not None:
                    _, port = request.transport.get_extra_info("peername")
                    for act in list(self._after_writes):
                        act(method, path, port)
                response = web.StreamResponse(status=answer.status, headers=kept)
                await response.prepare(request)
                async for data in answer.content.iter_chunked(_CHUNK):
                    await response.write(data)
                return response
        except aiohttp.ClientError:
            return _abort(request)

    def _may_be_late(self, method: str, path: str) -> bool:
        if self.weather.late_manifests_only:
            return is_manifest_put(method, path)
        return method == "PUT"

    def _deliver_late(self, request: web.Request, body: bytes) -> web.StreamResponse:
        seconds = self._chance.uniform(*self.weather.late_by)
        delivery = self._deliver(request.method, request.raw_path, request.headers, body, seconds)
        task = asyncio.create_task(delivery)
        self._deliveries.add(task)
        task.add_done_callback(self._deliveries.discard)
        status = self._chance.choice((0, 403, 504))
        return web.Response(status=status) if status else _abort(request)

    async def _deliver(
        self, method: str, path: str, headers: CIMultiDictProxy[str], body: bytes, seconds: float
    ) -> None:
        await asyncio.sleep(seconds)
        self.late += 1
        with contextlib.suppress(aiohttp.ClientError):
            async with self._ask(method, path, headers, body) as answer:
                self._note(method, path, body, answer, is_late=True)

    def _ask(
        self, method: str, path: str, headers: CIMultiDictProxy[str], body: bytes
    ) -> contextlib.AbstractAsyncContextManager[aiohttp.ClientResponse]:
        assert self._session is not None
        url = URL(f"http://{self._endpoint}{path}", encoded=True)
        return self._session.request(
            method, url, headers=headers, data=io.BytesIO(body), allow_redirects=False
        )

    def _note(
        self, method: str, path: str, body: bytes, answer: aiohttp.ClientResponse, *, is_late: bool
    ) -> None:
        name = unquote(path.partition("?")[0])
        if not name.endswith("/media.json") or method not in _CHANGES or answer.status >= 300:
            return
        media_id = name.split("/")[-2]
        manifest = Manifest()
        if method == "PUT":
            json_format.Parse(body, manifest, ignore_unknown_fields=True)
        else:
            manifest.tombstone.SetInParent()
        etag = answer.headers.get("ETag", "").strip('"')
        self.log.append(Commit(media_id, manifest, etag, time.time(), is_late))


def _abort(request: web.Request) -> web.Response:
    """End the connection without an answer."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=503)


@asynccontextmanager
async def running_gateway(
    endpoint: str, chance: random.Random
) -> AsyncIterator[tuple[Gateway, str]]:
    """A gateway to the S3 server at `endpoint`, and the HOST:PORT that it listens on."""
    gateway = Gateway(endpoint, chance)
    await gateway.start()
    try:
        async with web_server(gateway.forward) as address:
            yield gateway, address
    finally:
        await gateway.close()
