"""From `ingot-server up` until jobs run, and until a first one is done; also with 100,000 media.

The data directory is empty, or has media: manifests written into the bucket as a commit writes
them, all of the same small blob. The first job is a clip of 100 KB, and is submitted at once.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from pathlib import Path

from bench.clips import clip
from bench.origin import origin
from ingot import Client
from ingot.v1.media_pb2 import Media, Selection
from ingot_server.config import Settings
from ingot_server.library.blobs import Blobs
from ingot_server.library.identity import media_id
from ingot_server.library.manifest import serialize
from ingot_server.library.manifest_objects import manifest_key
from ingot_server.library.manifest_pb2 import Manifest
from tests.installation import installation

RUNS = 5
MEDIA = 100_000
WRITERS = 16


async def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        clip_path = await clip(Path(directory), 100_000)
        async with origin(clip_path) as address:
            url = f"{address}/first.mp4"
            found = [await start(Path(directory, f"empty-{run}"), url) for run in range(RUNS)]
        empty = [ready for ready, _ in found]
        done = [first for _, first in found]
        print(f"  empty: median {statistics.median(empty):.2f} s, worst {max(empty):.2f} s")
        print(f"  first job: median {statistics.median(done):.2f} s, worst {max(done):.2f} s")
        full_dir = Path(directory, "full")
        with installation(full_dir) as ingot:
            await fill(ingot.s3_settings(), MEDIA)
        full = [(await start(full_dir))[0] for _ in range(RUNS)]
        print(f"  {MEDIA:,} media: median {statistics.median(full):.2f} s, worst {max(full):.2f} s")
        print(f"  ratio {statistics.median(full) / statistics.median(empty):.2f}")


async def start(data_dir: Path, url: str = "") -> tuple[float, float]:
    """Return the seconds until jobs run, and until that of `url` is done."""
    begin = time.perf_counter()
    with installation(data_dir) as ingot:
        ready = time.perf_counter() - begin
        if url:
            async with Client(ingot.grpc_address) as client:
                await (await client.ingest_video(url))
        return ready, time.perf_counter() - begin


async def fill(settings: Settings, count: int) -> None:
    """Write the manifests of `count` media items."""
    blobs = Blobs(settings)
    numbers = iter(range(count))

    async def write() -> None:
        for number in numbers:
            key = f"http:http://example.com/{number}.mp4"
            media = Media(id=media_id(key, Selection()), title=f"Clip {number}")
            media.source.name, media.source.key = "http", key
            media.create_time.GetCurrentTime()
            name = manifest_key(media.id)
            content = serialize(Manifest(media=media), name)
            await blobs.put(name, content, content_type="application/json")

    await asyncio.gather(*(write() for _ in range(WRITERS)))
    await blobs.close()
