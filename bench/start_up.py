"""From `ingot-server up` to SERVING, on an empty data directory and on one with 100,000 media.

The media are manifests written into the bucket as a commit writes them, all of the same small blob.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from pathlib import Path

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
        empty = [await start(Path(directory, f"empty-{run}")) for run in range(RUNS)]
        print(f"  empty: median {statistics.median(empty):.2f} s, worst {max(empty):.2f} s")
        full_dir = Path(directory, "full")
        with installation(full_dir) as ingot:
            await fill(ingot.s3_settings(), MEDIA)
        full = [await start(full_dir) for _ in range(RUNS)]
        print(f"  {MEDIA:,} media: median {statistics.median(full):.2f} s, worst {max(full):.2f} s")
        print(f"  ratio {statistics.median(full) / statistics.median(empty):.2f}")


async def start(data_dir: Path) -> float:
    begin = time.perf_counter()
    with installation(data_dir):
        return time.perf_counter() - begin


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
