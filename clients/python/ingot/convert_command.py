"""The commands that make another media: `convert`, and `mp3`, which always brings it here."""

from __future__ import annotations

import asyncio
import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ingot import args_to_request, render
from ingot.client import Client
from ingot.download import Progress
from ingot.filename import check_output, place
from ingot.job import IngestJob
from ingot.output import write, write_text
from ingot.overall_progress import OverallProgress
from ingot.watch_command import follow, leaving, showing, watch

if TYPE_CHECKING:
    from ingot.progress import Drawing


async def convert(client: Client, options: Namespace) -> bool:
    """Has another media made, and brings its file here where one is named; whether it was made."""
    if options.output is not None:
        check_output(options.output)
    handle = await client.convert(
        options.name,
        args_to_request.recipe(options),
        selection=args_to_request.AUDIO_ONLY if options.audio_only else None,
        max_age=options.max_age,
        priority=args_to_request.priority(options),
        labels=dict(options.label),
    )
    if options.no_wait:
        write(options, handle.latest, render.job_table)
        return True
    if options.output is None:
        return await follow(client, [handle], options)
    await _fetch(client, handle, options)
    return True


async def _fetch(client: Client, handle: IngestJob, options: Namespace) -> None:
    """Follows a job, and brings here what it made, in one progress."""
    whole = OverallProgress(fetched=True)
    begun = False
    path = Path(options.output)
    try:
        with leaving([handle]), showing(options) as drawing:
            await watch(client, [handle], drawing, whole)
            media = await handle
            path, there = await asyncio.to_thread(place, options.output, media, media.blob)
            begun = True
            show = None if drawing is None else _showing(drawing, whole, handle.id)
            if not there:
                await client.download(media.id, path, progress=show)
            elif show is not None:
                show(media.blob.size_bytes, media.blob.size_bytes)
    except asyncio.CancelledError:
        if begun:
            sys.stderr.write(
                f"\nWhat has arrived is kept in {path}.part; the same command goes on from there.\n"
            )
        raise
    if not options.json:
        write_text(
            render.printable(f"{path}: {render.size(media.blob.size_bytes)}, checksum verified")
        )
    elif path != Path(options.output):
        sys.stderr.write(f"{path}\n")


def _showing(drawing: Drawing, whole: OverallProgress, key: str) -> Progress:
    """Shows a download as the end of the whole."""
    from ingot.progress import Rate

    rate = Rate()

    def show(done: int, total: int) -> None:
        fraction = whole.download(done, total)
        drawing.step(replace(rate.step("saving", done, total), fraction=fraction), key)

    return show
