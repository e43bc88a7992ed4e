"""Pages of ListMedia at 1,000 and at 1,000,000 media items, and lists after a loss of Redis.

The media items that are read are manifests in the bucket, written as a commit writes them. The
million more are entries of the index alone, in all of the sets that the others are in; no page
reaches them.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import grpc
from redis.asyncio import Redis

from bench.start_up import fill
from ingot.v1 import media_pb2
from ingot.v1.media_service_pb2 import ListMediaRequest, ListMediaResponse
from ingot.v1.media_service_pb2_grpc import MediaServiceStub
from tests.installation import installation

FEW = 1_000
STORED = 10_000
MANY = 1_000_000
PAGE = 50
CALLS = 40
ROUNDS = 5
KIND = media_pb2.MEDIA_KIND_OTHER
FILTERS: dict[str, dict[str, Any]] = {
    "": {},
    " of a source": {"source": "http"},
    " of a source and a kind": {"source": "http", "kind": KIND},
    " with a text": {"text": "clip 9"},
}


async def main() -> None:
    with (
        tempfile.TemporaryDirectory() as directory,
        installation(Path(directory, "data"), workers="1") as ingot,
    ):
        settings = ingot.s3_settings()
        async with (
            Redis.from_url(ingot.redis_url) as redis,
            grpc.aio.insecure_channel(ingot.grpc_address) as channel,
        ):
            stub: Any = MediaServiceStub(channel)
            await fill(settings, FEW)
            await redis.flushall()
            await listed(stub, FEW)
            few = {name: await pages(stub, wanted) for name, wanted in FILTERS.items()}
            await fill(settings, STORED)
            from_most = await rebuilt(stub, redis)
            from_copy = await rebuilt(stub, redis)
            print(
                f"  {STORED:,} media items after FLUSHALL: complete in {from_copy:.1f} s from the "
                f"copy of the index, {from_most:.1f} s without it for all but {FEW:,}"
            )
            await add_entries(redis)
            for name, wanted in FILTERS.items():
                many = await pages(stub, wanted)
                print(
                    f"  a page of {PAGE}{name}: {few[name] * 1000:.1f} ms at {FEW:,}, ratio "
                    f"{many / few[name]:.2f} at {MANY:,}"
                )


async def rebuilt(stub: Any, redis: Redis) -> float:
    """Return the seconds from a loss of Redis until the list is complete."""
    await redis.flushall()
    begin = time.perf_counter()
    page: ListMediaResponse = await stub.ListMedia(ListMediaRequest(page_size=1))
    assert page.rebuilding, "until it is complete, the list says that it is rebuilt"
    await complete(stub)
    seconds = time.perf_counter() - begin
    await listed(stub, STORED)
    return seconds


async def complete(stub: Any) -> None:
    """Wait until the list is complete."""
    while (await stub.ListMedia(ListMediaRequest(page_size=1))).rebuilding:  # noqa: ASYNC110
        await asyncio.sleep(0.05)


async def listed(stub: Any, count: int) -> None:
    """Wait until the list is complete, and check that it has all media items."""
    await complete(stub)
    found, token = 0, ""
    while True:
        page: ListMediaResponse = await stub.ListMedia(
            ListMediaRequest(page_size=1000, page_token=token)
        )
        found += len(page.media)
        token = page.next_page_token
        if not token:
            break
    if found != count:
        raise AssertionError(f"{found} of {count} media items are listed")


async def pages(stub: Any, wanted: dict[str, Any]) -> float:
    """Return the median of the seconds that a page takes."""
    request = ListMediaRequest(page_size=PAGE, **wanted)
    taken = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        for _ in range(CALLS):
            page = await stub.ListMedia(request)
            assert len(page.media) == PAGE
        taken.append((time.perf_counter() - begin) / CALLS)
    return statistics.median(taken)


async def add_entries(redis: Redis) -> None:
    """Add a million media items that are older than all others to the index."""
    for begin in range(0, MANY, 10_000):
        members = {f"{number:014d}{number:052d}": 0 for number in range(begin + 1, begin + 10_001)}
        for name in ("all", "source:http", f"kind:{KIND}"):
            await redis.zadd(f"ingot:index:{name}", members)
