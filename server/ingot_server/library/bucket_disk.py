"""The free space of the disk that the bucket's data is on, if this machine has it."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from pathlib import Path
from typing import Final

from ingot_server.library.blobs import Blobs
from ingot_server.library.identity import FIRST_CHARACTERS
from ingot_server.library.manifest_objects import FOLDER

_BLOCK_BYTES: Final = 512


async def bytes_over(blobs: Blobs, bucket_dir: Path, min_free: int) -> int:
    """Return how many bytes of stored media must go so that `min_free` bytes of the disk are free.

    What was deleted counts as free, although the server may not have given it back to the disk yet
    (SeaweedFS does when it compacts a volume). What the server keeps besides media in this bucket
    counts as if it were deleted, so too little is removed rather than too much. Raises Failure
    STORAGE_UNAVAILABLE.
    """
    stored = 0
    for character in FIRST_CHARACTERS:
        stored += sum(each.size_bytes for each in await blobs.list_objects(FOLDER + character))
    free = await asyncio.to_thread(_free_without_bucket, bucket_dir)
    return stored + min_free - free


def _free_without_bucket(bucket_dir: Path) -> int:
    """Return what would be free on the disk if the directory were empty."""
    used = 0
    for path in bucket_dir.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # It may be removed meanwhile.
            used += path.lstat().st_blocks * _BLOCK_BYTES
    return shutil.disk_usage(bucket_dir).free + used
