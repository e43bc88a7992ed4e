"""The calls of a mixed load, and the callers that watch all jobs meanwhile."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.clips import clip, recording
from bench.latencies import Latencies
from bench.origin import origin
from ingot import Client, IngotError, Recipe
from ingot.job import ENDED, IngestJob
from ingot.v1.job_pb2 import Job

MIX = {
    "new URL": 1.0,
    "new URL, 20 MB": 0.05,
    "new URL of a slow host": 0.1,
    "new URL to MP3": 0.1,
    "stored URL": 5.0,
    "GetMedia": 5.0,
    "ListMedia": 0.3,
    "ListJobs": 0.3,
}
"""Calls of each kind for each new URL. Every job is watched to its end by its caller."""

SMALL_BYTES, LARGE_BYTES, MP3_MINUTES = 90_000, 20_000_000, 1
SLOW_BYTES_PER_SECOND = 20_000
STORED_BEFORE = 20
SLOW_WATCHER_SECONDS = 0.5
# A host gets half of the slots, so that what is measured is not one host's share.
SMALL_HOSTS = 3


@dataclass(frozen=True, slots=True)
class Sites:
    """Addresses of the sites, every path of which is a file."""

    small: tuple[str, ...]
    large: str
    slow: str
    sound: str


@asynccontextmanager
async def sites(folder: Path, network: str = "127.0.0") -> AsyncIterator[Sites]:
    """Serves files on addresses of the `network`, whose last part is from 1 on."""
    small, large = await clip(folder, SMALL_BYTES), await clip(folder, LARGE_BYTES)
    sound = await recording(folder, MP3_MINUTES)
    hosts = (f"{network}.{number}" for number in itertools.count(1))
    async with AsyncExitStack() as stack:

        async def serve(path: Path, rate: float = 0) -> str:
            site = origin(path, bytes_per_second=rate, host=next(hosts))
            return await stack.enter_async_context(site)

        yield Sites(
            tuple([await serve(small) for _ in range(SMALL_HOSTS)]),
            await serve(large),
            await serve(small, SLOW_BYTES_PER_SECOND),
            await serve(sound),
        )


class MixedCalls:
    """Makes the calls, and notes how long each took from the moment at which it was due."""

    def __init__(
        self, client: Client, addresses: Sites, latencies: Latencies, *, seed: int
    ) -> None:
        self._client = client
        self._sites = addresses
        self._latencies = latencies
        self._choices = random.Random(seed)
        # Names that no earlier run has used at the same Ingot.
        self._names = (f"{time.time_ns()}-{number}" for number in itertools.count())
        self._stored: list[str] = []

    async def prepare(self) -> None:
        """Store what the first hits find, and load what every later job needs."""
        await self._media_of(await self._client.ingest_video(self._small_url()))
        mp3 = await self._client.convert(f"{self._sites.sound}/{next(self._names)}", _MP3)
        await self._media_of(mp3)
        jobs = [await self._client.ingest_video(self._small_url()) for _ in range(STORED_BEFORE)]
        for job in jobs:
            await self._media_of(job)

    async def perform(self, kind: str, due: float) -> None:
        """Make one call of the kind, which was due at `due` of time.perf_counter."""
        try:
            await self._call(kind, due)
        except IngotError as error:
            self._latencies.fail(kind, error.reason or type(error).__name__)
        except asyncio.CancelledError:
            self._latencies.fail(kind, "not answered in time")
            raise

    async def _call(self, kind: str, due: float) -> None:
        client = self._client
        match kind:
            case "new URL":
                await self._job(kind, due, self._small_url())
            case "new URL, 20 MB":
                await self._job(kind, due, f"{self._sites.large}/{next(self._names)}")
            case "new URL of a slow host":
                await self._job(kind, due, f"{self._sites.slow}/{next(self._names)}")
            case "new URL to MP3":
                url = f"{self._sites.sound}/{next(self._names)}"
                await self._wait(kind, due, await client.convert(url, _MP3))
            case "stored URL":
                job = await client.ingest_video(self._choices.choice(self._stored), request_id="")
                self._note(kind, due)
                assert job.latest.cached
            case "GetMedia":
                await client.media(self._choices.choice(self._stored))
                self._note(kind, due)
            case "ListMedia":
                async with aclosing(client.list_media()) as media:
                    await anext(media)
                self._note(kind, due)
            case "ListJobs":
                async with aclosing(client.jobs()) as jobs:
                    await anext(jobs)
                self._note(kind, due)
            case _:
                raise ValueError(f"there is no kind of call {kind!r}")

    async def _job(self, kind: str, due: float, url: str) -> None:
        await self._wait(kind, due, await self._client.ingest_video(url))

    async def _wait(self, kind: str, due: float, job: IngestJob) -> None:
        self._note(f"{kind}: accepted", due)
        await self._media_of(job)
        self._note(f"{kind}: done", due)

    async def _media_of(self, job: IngestJob) -> None:
        media = await job
        if not media.derived_from_media_id:
            self._stored.append(media.url)

    def _small_url(self) -> str:
        return f"{self._choices.choice(self._sites.small)}/{next(self._names)}"

    def _note(self, name: str, due: float) -> None:
        self._latencies.add(name, time.perf_counter() - due)


async def watch_all(
    client: Client, latencies: Latencies, name: str, *, pause_seconds: float = 0
) -> None:
    """Watch all jobs until cancelled, and note how long after its end each is seen to have ended.

    A slow watcher does nothing for `pause_seconds` after each update.
    """
    begin = time.time()
    async for update in client.watch_jobs(snapshot_size=1):
        if isinstance(update, Job) and update.state in ENDED:
            ended = update.end_time.ToNanoseconds() / 1e9
            if ended > begin:
                latencies.add(name, time.time() - ended)
        if pause_seconds:
            await asyncio.sleep(pause_seconds)


_MP3 = Recipe(mp3=Recipe.Mp3())
