"""What jobs and media items keep in Redis, by key, and in the bucket: what grows with what.

MEMORY USAGE of every key, before and after some jobs of 90 KB. The second table is of jobs that
wait, for a host that is slow.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from minio import Minio
from redis.asyncio import Redis

from bench.clips import clip
from bench.origin import origin
from bench.redis_commands import without_names
from ingot import Client
from ingot_server.config import Settings
from tests.installation import installation

JOBS, WAITING, AT_ONCE = 200, 1000, 16
LABELS = {"project": "kept"}
SLOW_BYTES_PER_SECOND = 5000
# Until the ends of the jobs are in the journal, and their entries have been removed.
SETTLE_SECONDS = 15.0
LEAST_BYTES = 1.0


@dataclass(slots=True)
class Keys:
    """All keys that are alike."""

    count: int = 0
    size_bytes: int = 0
    lifetime_seconds: int = -1
    """The longest; -1 if one does not expire."""


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        path = await clip(folder, 90_000)
        with installation(folder / "data") as ingot:
            async with (
                origin(path) as fast,
                origin(path, bytes_per_second=SLOW_BYTES_PER_SECOND, host="127.0.0.2") as slow,
                Client(ingot.grpc_address) as client,
                Redis.from_url(ingot.redis_url) as redis,
            ):

                async def ingest(number: int) -> None:
                    await (await client.ingest_video(f"{fast}/{number}.mp4", labels=LABELS))

                await ingest(0)
                await asyncio.sleep(SETTLE_SECONDS)
                before, used = await keys(redis), await used_memory(redis)
                for first in range(1, JOBS, AT_ONCE):
                    numbers = range(first, min(first + AT_ONCE, JOBS + 1))
                    await asyncio.gather(*map(ingest, numbers))
                await asyncio.sleep(SETTLE_SECONDS)
                after, used_after = await keys(redis), await used_memory(redis)
                report("an ended job and its media item", before, after, JOBS)
                print(f"    used_memory grew by {(used_after - used) / JOBS:,.0f} bytes for each")
                report_objects(ingot.s3_settings())
                for number in range(WAITING):
                    await client.ingest_video(f"{slow}/{number}.mp4", labels=LABELS)
                report("a job that waits", after, await keys(redis), WAITING)
                used = await used_memory(redis)
                print(
                    f"    used_memory grew by {(used - used_after) / WAITING:,.0f} bytes for each"
                )


async def keys(redis: Redis) -> Mapping[str, Keys]:
    """Return the keys of Redis, by name without what only one job has."""
    found = defaultdict[str, Keys](Keys)
    async for key in redis.scan_iter(count=1000):
        kind = found[without_names(key.decode(errors="replace"))]
        kind.count += 1
        kind.size_bytes += await redis.memory_usage(key, samples=0) or 0
        kind.lifetime_seconds = max(kind.lifetime_seconds, await redis.ttl(key))
    return found


async def used_memory(redis: Redis) -> int:
    return int((await redis.info("memory"))["used_memory"])


def report(name: str, before: Mapping[str, Keys], after: Mapping[str, Keys], number: int) -> None:
    print(f"  {name}: {'keys':>31} {'bytes':>7} {'lives for':>10}")
    rows = []
    for kind, keys_after in after.items():
        earlier = before.get(kind, Keys())
        size = (keys_after.size_bytes - earlier.size_bytes) / number
        count = (keys_after.count - earlier.count) / number
        lifetime = f"{keys_after.lifetime_seconds} s" if keys_after.lifetime_seconds > 0 else ""
        rows.append((size, f"    {kind:50} {count:8.1f} {size:7.0f} {lifetime:>10}"))
    for size, row in sorted(rows, reverse=True):
        if size >= LEAST_BYTES:
            print(row)
    print(f"    {'all':50} {'':8} {sum(size for size, _ in rows):7.0f}")


def report_objects(settings: Settings) -> None:
    s3 = Minio(
        settings.s3_endpoint,
        settings.s3_access_key,
        settings.s3_secret_key,
        secure=False,
        region=settings.s3_region,
    )
    sizes = defaultdict[str, list[int]](list)
    for item in s3.list_objects(settings.s3_bucket, recursive=True):
        name = str(item.object_name)
        folder = name.partition("/")[0]
        kind = "media/<id>/media.json" if name.endswith("/media.json") else f"{folder}/"
        sizes[kind].append(item.size or 0)
    for kind, found in sorted(sizes.items()):
        print(f"    {kind:50} {len(found):8} {sum(found) / len(found):7.0f}")
