"""What each command does. Results go to stdout, progress and errors to stderr."""

from __future__ import annotations

import asyncio
import sys
from argparse import Namespace
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Final

from ingot import args_to_request, convert_command, error_text, render
from ingot.client import Client
from ingot.download import named_file
from ingot.errors import IngotError, InvalidRequest, ServiceUnavailable
from ingot.filename import check_output, place
from ingot.job import IngestJob
from ingot.output import write, write_json, write_text
from ingot.v1.job_pb2 import Job, JobState
from ingot.v1.media_service_pb2 import DeleteMediaResponse
from ingot.watch_command import children, follow

DONE: Final = 0
FAILED: Final = 1
WRONG_USAGE: Final = 2


async def run(options: Namespace) -> int:
    """Runs the command that `options` name; answers with its exit code."""
    try:
        async with Client(options.server) as client:
            return await _COMMANDS[options.command](client, options)
    except BrokenPipeError:
        raise
    except (IngotError, OSError) as error:
        return _report(error, options)


def _report(error: IngotError | OSError, options: Namespace, *, about: str = "") -> int:
    """Says what failed; answers with the exit code that it makes."""
    refused = isinstance(error, InvalidRequest) and args_to_request.name_options(error, options)
    error_text.failed(error, server=options.server, as_json=options.json, about=about)
    return WRONG_USAGE if refused else FAILED


async def _ingest(client: Client, options: Namespace) -> int:
    wanted = args_to_request.ingest(options)

    async def begin(url: str) -> Job | IngestJob:
        if options.validate_only:
            return await client.validate(url, **wanted)
        return await client.ingest_video(url, priority=args_to_request.priority(options), **wanted)

    return await _each(client, options, options.urls, begin)


async def _upload(client: Client, options: Namespace) -> int:
    several = len(options.files) > 1

    async def begin(path: str) -> Job | IngestJob:
        return await _send(client, path, options, named=several)

    return await _each(client, options, options.files, begin)


async def _each(
    client: Client,
    options: Namespace,
    names: Sequence[str],
    begin: Callable[[str], Awaitable[Job | IngestJob]],
) -> int:
    """Begins a job for each name, then follows them all; a Job that `begin` gives is only shown.

    Of several, one that fails does not stop the others, unless it is the server that is not there.
    """
    handles: list[IngestJob] = []
    code = DONE
    for name in names:
        try:
            begun = await begin(name)
        except (IngotError, OSError) as error:
            if len(names) == 1 or isinstance(error, ServiceUnavailable):
                raise
            _report(error, options, about=name if isinstance(error, IngotError) else "")
            code = FAILED
            continue
        if isinstance(begun, Job):
            write(options, begun, render.job_table)
        elif options.no_wait:
            write(options, begun.latest, render.job_table)
        else:
            handles.append(begun)
    if handles and not await follow(client, handles, options):
        code = FAILED
    return code


async def _send(client: Client, path: str, options: Namespace, *, named: bool) -> IngestJob:
    labels = dict(options.label)
    if options.json:
        return await client.upload_media(path, labels=labels)

    from ingot.progress import Drawing, Rate

    rate = Rate()
    with Drawing(several=named) as drawing:

        def show(done: int, total: int) -> None:
            step = rate.step("uploading", done, total)
            drawing.step(replace(step, of=render.printable(path)) if named else step, path)

        return await client.upload_media(path, labels=labels, progress=show)


async def _convert(client: Client, options: Namespace) -> int:
    return DONE if await convert_command.convert(client, options) else FAILED


async def _watch(client: Client, options: Namespace) -> int:
    return await _follow(client, await client.job(options.job_id), options)


async def _follow(client: Client, handle: IngestJob, options: Namespace) -> int:
    return DONE if await follow(client, [handle], options) else FAILED


async def _job(client: Client, options: Namespace) -> int:
    job = (await client.job(options.job_id)).latest
    write(options, job, render.job_table)
    if not job.child_job_ids:
        return DONE
    entries = await children(client, job)
    if options.json:
        for entry in entries:
            write_json(entry)
    else:
        write_text(render.table([render.JOB_COLUMNS, *map(render.job_row, entries)]))
    return DONE


async def _cancel(client: Client, options: Namespace) -> int:
    job = await client.cancel(options.job_id)
    write(options, job, render.job_table)
    return DONE if job.state == JobState.JOB_STATE_CANCELLED else FAILED


async def _jobs(client: Client, options: Namespace) -> int:
    states = [JobState.Value(f"JOB_STATE_{name.upper()}") for name in options.state]
    select = client.watch_jobs if options.watch else client.jobs
    rows: list[tuple[str, ...]] = [render.JOB_COLUMNS]
    async with aclosing(select(states=states, labels=dict(options.label))) as jobs:
        async for job in jobs:
            if options.json:
                write_json(job)
            elif options.watch:
                write_text(render.table([render.job_row(job)]))
            else:
                rows.append(render.job_row(job))
    if not options.json:
        write_text(render.table(rows))
    return DONE


async def _media(client: Client, options: Namespace) -> int:
    media = await client.media(options.name, selection=args_to_request.selection(options))
    write(options, media, render.media_table)
    return DONE


async def _list(client: Client, options: Namespace) -> int:
    rows: list[tuple[str, ...]] = [render.MEDIA_COLUMNS]
    async with aclosing(client.list_media()) as page:
        async for media in page:
            if options.json:
                write_json(media)
            else:
                rows.append(render.media_row(media))
    if not options.json:
        write_text(render.table(rows))
    return DONE


async def _sources(client: Client, options: Namespace) -> int:
    sources = await client.sources()
    if options.json:
        for source in sources:
            write_json(source)
    else:
        write_text(render.table([render.SOURCE_COLUMNS, *map(render.source_row, sources)]))
    return DONE


async def _remove(client: Client, options: Namespace) -> int:
    await client.delete_media(options.media_id)
    write(options, DeleteMediaResponse(), lambda _: f"Deleted {options.media_id}.")
    return DONE


async def _url(client: Client, options: Namespace) -> int:
    link = await client.download_url(
        options.name, selection=args_to_request.selection(options), lifetime=options.lifetime
    )
    write(options, link, lambda link: link.url)
    return DONE


async def _download(client: Client, options: Namespace) -> int:
    check_output(options.output)
    selection = args_to_request.selection(options)
    media = await client.media(options.name, selection=selection)
    file, _ = named_file(media, options.name)
    path, there = await asyncio.to_thread(place, options.output, media, file)
    if not there:
        await _fetch(client, path, options)
    if not options.json:
        write_text(render.printable(f"{path}: {render.size(file.size_bytes)}, checksum verified"))
    else:
        write_json(media)
        if path != Path(options.output):
            sys.stderr.write(f"{render.printable(str(path))}\n")
    return DONE


async def _fetch(client: Client, path: Path, options: Namespace) -> None:
    selection = args_to_request.selection(options)
    if options.json:
        await client.download(options.name, path, selection=selection)
        return

    from ingot.progress import Drawing, Rate

    rate = Rate()
    try:
        with Drawing() as drawing:

            def show(done: int, total: int) -> None:
                drawing.step(rate.step("downloading", done, total))

            await client.download(options.name, path, selection=selection, progress=show)
    except asyncio.CancelledError:
        sys.stderr.write(
            f"\nWhat has arrived is kept in {path}.part; the same command goes on from there.\n"
        )
        raise


_COMMANDS: Final[Mapping[str, Callable[[Client, Namespace], Awaitable[int]]]] = {
    "ingest": _ingest,
    "upload": _upload,
    "convert": _convert,
    "mp3": _convert,
    "media": _media,
    "download": _download,
    "url": _url,
    "jobs": _jobs,
    "job": _job,
    "watch": _watch,
    "cancel": _cancel,
    "list": _list,
    "rm": _remove,
    "sources": _sources,
}
