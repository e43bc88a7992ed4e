"""`ingot-server export` and `ingot-server import`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Final, TextIO

from ingot_server.asyncio_tasks import cancel_and_wait
from ingot_server.backup.bucket_place import BucketPlace
from ingot_server.backup.copier import Copier, Wishes
from ingot_server.backup.other_place import other_place
from ingot_server.backup.place import Place
from ingot_server.backup.tally import Tally
from ingot_server.config import Settings
from ingot_server.library.blobs import Blobs
from ingot_server.library.catalog import Catalog
from ingot_server.private_directory import UnsafeDirectory, make_private_directory
from ingot_server.progress_line import ProgressLine
from ingot_server.redis import connect
from ingot_server.redis_checks import require_usable
from ingot_server.setting_values import SettingError

_PROGRESS_SECONDS: Final = 0.2


async def export_media(
    settings: Settings, address: str, wishes: Wishes, say: Callable[[str], object], output: TextIO
) -> Tally:
    """Copy media items from the installation's bucket to `address`, with the progress on `output`.

    `address` is a directory or `s3://BUCKET/FOLDER`. What is there follows the installation. Raises
    Failure if one of both cannot be used, SettingError if `address` names nothing.
    """
    async with contextlib.AsyncExitStack() as stack:
        destination = other_place(settings, address)
        stack.push_async_callback(destination.close)
        source = BucketPlace(Blobs(settings.replace(buckets_file="")), settings.scratch_dir)
        stack.push_async_callback(source.close)
        await source.begin(written=False)
        await destination.begin(written=True)
        return await _run(source, destination, wishes, settings, say, output)


async def import_media(
    settings: Settings, address: str, wishes: Wishes, say: Callable[[str], object], output: TextIO
) -> Tally:
    """Copy media items from `address`, as in `export_media`, to the installation's bucket.

    They are listed and found at once, also by an installation that runs. Media items that were
    changed here since stay as they are. Raises as `export_media`, and if Redis cannot be used.
    """
    async with contextlib.AsyncExitStack() as stack:
        source = other_place(settings, address)
        stack.push_async_callback(source.close)
        redis = connect(settings)
        stack.push_async_callback(redis.aclose)
        await require_usable(redis)
        blobs = Blobs(settings.replace(buckets_file=""))
        destination = BucketPlace(blobs, settings.scratch_dir, Catalog(blobs, redis, settings))
        stack.push_async_callback(destination.close)
        await source.begin(written=False)
        await destination.begin(written=True)
        wishes = replace(wishes, keep_newer=True)
        return await _run(source, destination, wishes, settings, say, output)


async def _run(
    source: Place,
    destination: Place,
    wishes: Wishes,
    settings: Settings,
    say: Callable[[str], object],
    output: TextIO,
) -> Tally:
    try:
        make_private_directory(settings.scratch_dir)
    except UnsafeDirectory as error:
        raise SettingError(f"INGOT_SCRATCH_DIR: {error}") from None
    tally = Tally()
    copier = Copier(source, destination, replace(wishes, grace=settings.gc_grace), tally, say)
    async with _showing(tally, output):
        await copier.copy()
    for line in tally.summary(dry_run=wishes.dry_run):
        say(line)
    return tally


@contextlib.asynccontextmanager
async def _showing(tally: Tally, output: TextIO) -> AsyncIterator[None]:
    """Show the progress on `output` meanwhile."""
    line = ProgressLine(output, "media items")

    def show() -> None:
        line.show(tally.done, tally.total, f", {tally.size_bytes} bytes copied")

    async def keep_showing() -> None:
        while True:
            await asyncio.sleep(_PROGRESS_SECONDS)
            if tally.total:
                show()

    showing = asyncio.create_task(keep_showing())
    try:
        yield
    finally:
        await cancel_and_wait(showing)
        show()
        line.end()
