"""Ingot against what would be used instead: a shell loop, a simple service, and Celery.

    shell loop       yt-dlp into a file, then curl into the bucket; one URL after another
    CRUD service     yt-dlp in threads of the service, then the minio SDK, then a row of a database
    Celery site      a request to the URL, then a task in a prefork pool: yt-dlp with ffmpeg, then
                     the minio SDK. Callers ask Redis for the status every 50 ms

The first two store the video, as an ingest does, and the third an MP3 of 192 kbit/s, as Convert by
URL does. All get URLs of the same site on this machine, and store into the same S3 server. The
processor time is that of all processes of a system, of its Redis and of the S3 server meanwhile.
Callers and the site run in this process, which does not count.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from minio import Minio

from bench.alternatives import (
    BUCKET,
    System,
    at_once,
    celery_site,
    crud_service,
    make_bucket,
    running,
    shell_loop,
)
from bench.clips import clip, film
from bench.origin import answer
from ingot import Client, Recipe
from tests.installation import installation
from tests.servers import STACKS, Stores, stores

SMALL_BYTES, LARGE_BYTES = 90_000, 150_000_000
FILM_MINUTES, LONG_FILM_MINUTES, FILM_KBPS = 1, 5, 1000
ONE_BY_ONE, AT_ONCE, CALLERS = 3, 8, 10
MP3 = Recipe(mp3=Recipe.Mp3())


class Site:
    """A web server of one file, which counts the requests that it gets. Every path is the file."""

    def __init__(self, path: Path) -> None:
        self.requests = 0
        self._path = path
        self._address = ""
        self._names = itertools.count()

    def url(self) -> str:
        """Return a URL that nobody has requested."""
        return f"{self._address}/{next(self._names)}.mp4"

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Site]:
        server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self._address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.requests += 1
        await answer(self._path, 0, reader, writer)


async def main() -> None:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        found = stack.enter_context(stores(STACKS[0]))
        s3 = make_bucket(found)
        small, large, short, long = [
            await stack.enter_async_context(Site(path).serving())
            for path in (
                await clip(folder, SMALL_BYTES),
                await clip(folder, LARGE_BYTES),
                await film(folder, FILM_MINUTES, video_kbps=FILM_KBPS),
                await film(folder, LONG_FILM_MINUTES, video_kbps=FILM_KBPS),
            )
        ]
        print_head(f"the video of {SMALL_BYTES:,} and {LARGE_BYTES:,} bytes")
        await compare(shell_loop(found), small, large)
        async with crud_service(found, folder / "crud.sqlite") as crud:
            await compare(crud, small, large)
        async with ingot(folder / "ingest", found) as (client, pids):
            await compare(System("Ingot", at_once(ingest(client)), pids), small, large)
        print_head(f"the MP3 of films of {FILM_MINUTES} and {LONG_FILM_MINUTES} minutes")
        with celery_site(found) as celery:
            await compare(celery, short, long)
        async with ingot(folder / "convert", found) as (client, pids):
            await compare(System("Ingot", at_once(convert(client)), pids), short, long)
        check(s3)


def print_head(what: str) -> None:
    print(f"  {what}")
    print(
        f"  {'':12} {'small':>8} {f'{AT_ONCE} small at once':>19} {'large':>17} "
        f"{'again':>8} {f'{CALLERS} callers, new URL':>23}"
    )
    print(
        f"  {'':12} {'s':>8} {'s each':>9} {'CPU s':>9} {'s':>8} {'CPU s':>8} "
        f"{'s':>8} {'s':>10} {'requests':>12}"
    )


async def compare(system: System, small: Site, large: Site) -> None:
    """Print what a system takes for small items, a large one, and what was requested before."""
    await system.store([small.url()])  # what only the first call needs
    alone = [(await timed(system, [small.url()]))[0] for _ in range(ONE_BY_ONE)]
    many, many_processors = await timed(system, [small.url() for _ in range(AT_ONCE)])
    url = large.url()
    one, one_processors = await timed(system, [url])
    again, _ = await timed(system, [url])
    url, before, begin = small.url(), small.requests, time.perf_counter()
    await asyncio.gather(*(system.store([url]) for _ in range(CALLERS)))
    callers = time.perf_counter() - begin
    await system.finish()
    requests = small.requests - before
    print(
        f"  {system.name:12} {statistics.median(alone):8.2f} {many / AT_ONCE:9.2f} "
        f"{many_processors / AT_ONCE:9.2f} {one:8.2f} {one_processors:8.2f} "
        f"{again:8.3f} {callers:10.2f} {requests:12}",
        flush=True,
    )


async def timed(system: System, urls: Sequence[str]) -> tuple[float, float]:
    """Return the seconds that it takes to store them, and the processor seconds."""
    begin, processors = time.perf_counter(), system.processor_seconds()
    await system.store(urls)
    return time.perf_counter() - begin, system.processor_seconds() - processors


@asynccontextmanager
async def ingot(data_dir: Path, found: Stores) -> AsyncIterator[tuple[Client, tuple[int, ...]]]:
    """Runs an Ingot on the same S3 server; yields a client and the roots of its processes."""
    s3 = {
        "s3_endpoint": found.s3_endpoint,
        "s3_access_key": found.s3_access_key,
        "s3_secret_key": found.s3_secret_key,
    }
    with installation(data_dir, **s3) as started:
        async with Client(started.grpc_address) as client:
            yield client, (started.process.pid, running("S3"))


def ingest(client: Client) -> Callable[[str], Awaitable[None]]:
    async def one(url: str) -> None:
        await (await client.ingest_video(url, request_id=""))

    return one


def convert(client: Client) -> Callable[[str], Awaitable[None]]:
    async def one(url: str) -> None:
        await (await client.convert(url, MP3, request_id=""))

    return one


def check(s3: Minio) -> None:
    """Make sure that each of the others has stored every URL that it was given."""
    for folder in ("loop/", "crud/", "celery/"):
        sizes = [item.size or 0 for item in s3.list_objects(BUCKET, folder)]
        if len(sizes) != 1 + ONE_BY_ONE + AT_ONCE + 2 or min(sizes) < SMALL_BYTES / 2:
            raise AssertionError(f"{folder} has objects of {sizes} bytes")
