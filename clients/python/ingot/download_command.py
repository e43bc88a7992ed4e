"""The command `download`, and what `convert -o` and `mp3` share with it."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

from ingot import args_to_request, render
from ingot.client import Client
from ingot.download import ProgressCallback, find_file
from ingot.filename import check_output, find_output
from ingot.output import write_json, write_text
from ingot.v1.media_pb2 import Blob


async def download_media(client: Client, options: Namespace) -> None:
    """Download the file that the options name, and print where it is."""
    check_output(options.output)
    selection = args_to_request.selection(options)
    media = await client.media(options.name, selection=selection)
    blob, _ = find_file(media, options.name)
    output = await asyncio.to_thread(find_output, options.output, media, blob)
    if not output.complete:
        try:
            with _progress_callback(options) as progress:
                await client.download(
                    options.name, output.path, selection=selection, progress=progress
                )
        except asyncio.CancelledError:
            print_resume_hint(output.path)
            raise
    if options.json:
        write_json(media)
    print_path(options, output.path, blob)


def print_resume_hint(path: Path) -> None:
    """Say how to resume a download to `path` that was interrupted."""
    sys.stderr.write(
        f"\nThe downloaded part is in {path}.part. To resume, run the same command again.\n"
    )


def print_path(options: Namespace, path: Path, blob: Blob) -> None:
    """Print where a file was downloaded to; with `--json` on stderr, if the caller cannot know."""
    if not options.json:
        write_text(render.printable(f"{path}: {render.size(blob.size_bytes)}, checksum verified"))
    elif path != Path(options.output):
        sys.stderr.write(f"{render.printable(str(path))}\n")


@contextlib.contextmanager
def _progress_callback(options: Namespace) -> Iterator[ProgressCallback | None]:
    """Show the progress of one download; with `--json` or `--quiet` show nothing."""
    if options.json or options.quiet:
        yield None
        return
    from ingot.progress import ProgressDisplay, RateMeter

    meter = RateMeter()
    with ProgressDisplay() as display:

        def show(bytes_done: int, bytes_total: int) -> None:
            display.show_step(meter.step("downloading", bytes_done, bytes_total))

        yield show
