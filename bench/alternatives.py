"""What would be used instead of Ingot, each as it would be run; comparison.py describes them."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from celery import Celery
from minio import Minio
from redis import Redis

from bench.processes import processor_seconds_by_role, role
from ingot_server.config import Settings
from ingot_server.jobs.queue import broker_address
from ingot_server.process.supervisor import Program
from tests.installation import descendants
from tests.servers import Stores, process

BUCKET = "comparison"
POLL_SECONDS = 0.05
# Of the handler of the Celery site.
THREADS = 16
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True)
class System:
    """Something that stores what is behind URLs."""

    name: str
    store: Callable[[Sequence[str]], Awaitable[None]]
    """Store what is behind all of them; it returns when all is in the bucket."""
    pids: tuple[int, ...]
    """What runs all the time; what else it starts has ended when `store` returns."""
    finish: Callable[[], Awaitable[None]] = lambda: asyncio.sleep(0)
    """Wait until nothing is done any more for what is stored already."""

    def processor_seconds(self) -> float:
        """Return the processor time so far, with that of all ended children of this process."""
        ended = os.times()
        running = sum(sum(processor_seconds_by_role(pid).values()) for pid in self.pids)
        return ended.children_user + ended.children_system + running


def at_once(one: Callable[[str], Awaitable[None]]) -> Callable[[Sequence[str]], Awaitable[None]]:
    """Return what stores all URLs at the same time."""

    async def store(urls: Sequence[str]) -> None:
        await asyncio.gather(*map(one, urls))

    return store


def running(wanted: str) -> int:
    """Return the process below this one that has the role of `bench.processes`."""
    [pid] = [each for each in descendants(os.getpid()) if role(each) == wanted]
    return pid


def make_bucket(found: Stores) -> Minio:
    """Make the bucket that all but Ingot store into; return what lists it."""
    s3 = Minio(
        *(found.s3_endpoint, found.s3_access_key, found.s3_secret_key),
        secure=False,
        region="us-east-1",
    )
    s3.make_bucket(BUCKET)
    return s3


def shell_loop(found: Stores) -> System:
    """yt-dlp into a file, then curl into the bucket."""
    variables = {
        **_variables(found),
        "S3_URL": f"http://{found.s3_endpoint}/{BUCKET}/loop",
        "S3_USER": f"{found.s3_access_key}:{found.s3_secret_key}",
    }

    async def store(urls: Sequence[str]) -> None:
        script = str(ROOT / "bench" / "shell_loop.sh")
        loop = await asyncio.create_subprocess_exec(script, *urls, env=variables)
        if await loop.wait() != 0:
            raise RuntimeError("the shell loop failed")

    return System("shell loop", store, (running("S3"),))


@asynccontextmanager
async def crud_service(found: Stores, database: Path) -> AsyncIterator[System]:
    """yt-dlp in threads of a service, then the minio SDK, then a row."""
    service = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.crud_service"),
        cwd=ROOT,
        env={**_variables(found), "CRUD_DATABASE": str(database)},
        stdout=asyncio.subprocess.PIPE,
    )
    assert service.stdout is not None
    try:
        address = f"http://127.0.0.1:{int(await service.stdout.readline())}/"
        async with aiohttp.ClientSession() as session:

            async def one(url: str) -> None:
                async with session.post(address, json={"url": url}) as response:
                    response.raise_for_status()

            yield System("CRUD service", at_once(one), (service.pid, running("S3")))
    finally:
        service.kill()
        await service.wait()


@contextmanager
def celery_site(found: Stores) -> Iterator[System]:
    """A web site's handler, which runs here, and the Celery worker behind it."""
    broker = broker_address(Settings(redis_url=found.redis_url))
    worker = Program(
        name="celery",
        arguments=(
            *(sys.executable, "-m", "celery", "--app", "bench.celery_site", "worker"),
            *("--pool", "prefork", "--concurrency", str(os.cpu_count()), "--loglevel", "INFO"),
        ),
        environment={
            **_variables(found),
            "SITE_REDIS_URL": found.redis_url,
            "SITE_BROKER_URL": broker,
        },
        ready=re.compile(" ready"),
        directory=ROOT,
    )
    app, redis = Celery(broker=broker), Redis.from_url(found.redis_url)
    threads = ThreadPoolExecutor(THREADS)

    def request(url: str) -> None:
        """Answer a request of a page: look at the status, and if there is none, start."""
        if redis.get(url) is None:
            with urllib.request.urlopen(urllib.request.Request(url, method="HEAD")):
                pass
            redis.incr("sent")
            app.send_task("make_mp3", [url])
            redis.set(url, "queued", nx=True)

    # Pages of such sites poll, too.
    async def one(url: str) -> None:
        await asyncio.get_running_loop().run_in_executor(threads, request, url)
        while (status := redis.get(url)) == b"queued":  # noqa: ASYNC110
            await asyncio.sleep(POLL_SECONDS)
        if status != b"finished":
            raise RuntimeError(f"the task ended with {status!r}")

    async def finish() -> None:
        while redis.get("ended") != redis.get("sent"):  # noqa: ASYNC110
            await asyncio.sleep(POLL_SECONDS)

    with process(worker) as started:
        pids = (started.pid, running("Redis"), running("S3"))
        yield System("Celery site", at_once(one), pids, finish)


def _variables(found: Stores) -> Mapping[str, str]:
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "no_proxy": "*",
        "S3_ENDPOINT": found.s3_endpoint,
        "S3_ACCESS_KEY": found.s3_access_key,
        "S3_SECRET_KEY": found.s3_secret_key,
        "S3_BUCKET": BUCKET,
    }
