"""The commands `convert` and `mp3`: convert a media item, and download the result if asked to."""

from __future__ import annotations

import asyncio
from argparse import Namespace
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ingot import args_to_request, render
from ingot.client import Client
from ingot.download import ProgressCallback
from ingot.download_command import print_path, print_resume_hint
from ingot.filename import OutputFile, check_output, find_output
from ingot.job import IngestJob
from ingot.output import write
from ingot.watch_command import job_hints, open_display, show_updates, watch_to_end

if TYPE_CHECKING:
    from ingot.progress import ProgressDisplay

# The part of the bar that is the job's, if the download of its result follows.
_JOB_SHARE: Final = 0.9


async def convert_media(client: Client, options: Namespace) -> bool:
    """Convert a media item, and download the result if `options.output` names a file.

    Returns whether the job succeeded. Raises the error of a job that failed.
    """
    if options.output is not None:
        check_output(options.output)
    handle = await client.convert(
        options.name,
        args_to_request.recipe(options),
        selection=args_to_request.AUDIO_ONLY if options.audio_only else None,
        max_age=options.max_age,
        priority=args_to_request.priority(options),
        labels=dict(options.label),
        webhook_url=options.webhook,
    )
    if options.no_wait:
        write(options, handle.latest, render.job_table)
        return True
    if options.output is None:
        return await watch_to_end(client, [handle], options)
    await _download_result(client, handle, options)
    return True


async def _download_result(client: Client, handle: IngestJob, options: Namespace) -> None:
    """Watch a job and download its result, with one progress bar for both."""
    share = 0.0 if handle.done else _JOB_SHARE
    output: OutputFile | None = None
    try:
        with job_hints([handle]), open_display(options) as display:
            await show_updates(client, [handle], display, share)
            media = await handle
            output = await asyncio.to_thread(find_output, options.output, media, media.blob)
            progress = _download_progress(display, share, handle.id) if display else None
            if not output.complete:
                await client.download(media.id, output.path, progress=progress)
            elif progress is not None:
                progress(media.blob.size_bytes, media.blob.size_bytes)
    except asyncio.CancelledError:
        if output is not None:
            print_resume_hint(output.path)
        raise
    print_path(options, output.path, media.blob)


def _download_progress(display: ProgressDisplay, begin: float, key: str) -> ProgressCallback:
    """Return a callback that shows a download as the part of the bar from `begin` on."""
    from ingot.progress import RateMeter

    meter = RateMeter()

    def show(bytes_done: int, bytes_total: int) -> None:
        done = bytes_done / bytes_total if bytes_total else 1.0
        step = meter.step("saving", bytes_done, bytes_total)
        display.show_step(replace(step, fraction=begin + (1 - begin) * done), key)

    return show
