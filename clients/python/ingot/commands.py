"""What each command does. Results go to stdout, progress and errors to stderr."""

from __future__ import annotations

import asyncio
import sys
from argparse import Namespace
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Final, TypeVar

from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message

from ingot import report, text
from ingot.client import Client
from ingot.errors import IngotError, ServiceUnavailable
from ingot.following import children, follow
from ingot.job import IngestJob
from ingot.v1.ingest_service_pb2 import IngestRequest
from ingot.v1.job_pb2 import IngestOptions, JobState
from ingot.v1.media_pb2 import Selection
from ingot.v1.media_service_pb2 import DeleteMediaResponse

Shown = TypeVar("Shown", bound=Message)

DONE: Final = 0
FAILED: Final = 1


async def run(options: Namespace) -> int:
    """Runs the command that `options` name; answers with its exit code."""
    try:
        async with Client(options.server) as client:
            return await _COMMANDS[options.command](client, options)
    except BrokenPipeError:
        raise
    except (IngotError, OSError) as error:
        report.failed(error, server=options.server, as_json=options.json)
        return FAILED


async def _ingest(client: Client, options: Namespace) -> int:
    asked = _asked(options)
    handles: list[IngestJob] = []
    code = DONE
    for url in options.urls:
        try:
            if options.validate_only:
                _write(options, await client.validate(url, **asked), text.job_table)
                continue
            priority = IngestRequest.Priority.Value(f"PRIORITY_{options.priority.upper()}")
            handle = await client.ingest_video(url, priority=priority, **asked)
        except IngotError as error:
            if len(options.urls) == 1 or isinstance(error, ServiceUnavailable):
                raise
            report.failed(error, server=options.server, as_json=options.json, about=url)
            code = FAILED
            continue
        if options.no_wait:
            _write(options, handle.latest, text.job_table)
        else:
            handles.append(handle)
    if handles and not await follow(client, handles, options):
        code = FAILED
    return code


def _asked(options: Namespace) -> dict[str, Any]:
    """What `ingest` asks for, whatever the URL."""
    taken = IngestOptions(
        playlist=options.playlist,
        max_entries=options.max_entries,
        subtitle_languages=options.subtitles,
        automatic_subtitles=options.automatic_subtitles,
        thumbnail=options.thumbnail,
    )
    if options.record is not None:
        taken.record_duration.FromTimedelta(options.record)
    return {
        "selection": _selection(options),
        "max_age": options.max_age,
        "labels": dict(options.label),
        "options": taken if taken.ByteSize() else None,
    }


async def _upload(client: Client, options: Namespace) -> int:
    handles: list[IngestJob] = []
    several = len(options.files) > 1
    code = DONE
    for path in options.files:
        try:
            handle = await _send(client, path, options, named=several)
        except (IngotError, OSError) as error:
            if not several or isinstance(error, ServiceUnavailable):
                raise
            about = path if isinstance(error, IngotError) else ""
            report.failed(error, server=options.server, as_json=options.json, about=about)
            code = FAILED
            continue
        if options.no_wait:
            _write(options, handle.latest, text.job_table)
        else:
            handles.append(handle)
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
            drawing.step(replace(step, of=text.printable(path)) if named else step, path)

        return await client.upload_media(path, labels=labels, progress=show)


async def _watch(client: Client, options: Namespace) -> int:
    return await _follow(client, await client.job(options.job_id), options)


async def _follow(client: Client, handle: IngestJob, options: Namespace) -> int:
    return DONE if await follow(client, [handle], options) else FAILED


async def _job(client: Client, options: Namespace) -> int:
    job = (await client.job(options.job_id)).latest
    _write(options, job, text.job_table)
    if not job.child_job_ids:
        return DONE
    entries = await children(client, job)
    if options.json:
        for entry in entries:
            _write_json(entry)
    else:
        _write_text(text.table([text.JOB_COLUMNS, *map(text.job_row, entries)]))
    return DONE


async def _cancel(client: Client, options: Namespace) -> int:
    job = await client.cancel(options.job_id)
    _write(options, job, text.job_table)
    return DONE if job.state == JobState.JOB_STATE_CANCELLED else FAILED


async def _jobs(client: Client, options: Namespace) -> int:
    states = [JobState.Value(f"JOB_STATE_{name.upper()}") for name in options.state]
    select = client.watch_jobs if options.watch else client.jobs
    rows: list[tuple[str, ...]] = [text.JOB_COLUMNS]
    async with aclosing(select(states=states, labels=dict(options.label))) as jobs:
        async for job in jobs:
            if options.json:
                _write_json(job)
            elif options.watch:
                _write_text(text.table([text.job_row(job)]))
            else:
                rows.append(text.job_row(job))
    if not options.json:
        _write_text(text.table(rows))
    return DONE


async def _media(client: Client, options: Namespace) -> int:
    media = await client.media(options.name, selection=_selection(options))
    _write(options, media, text.media_table)
    return DONE


async def _list(client: Client, options: Namespace) -> int:
    rows: list[tuple[str, ...]] = [text.MEDIA_COLUMNS]
    async with aclosing(client.list_media()) as page:
        async for media in page:
            if options.json:
                _write_json(media)
            else:
                rows.append(text.media_row(media))
    if not options.json:
        _write_text(text.table(rows))
    return DONE


async def _sources(client: Client, options: Namespace) -> int:
    sources = await client.sources()
    if options.json:
        for source in sources:
            _write_json(source)
    else:
        _write_text(text.table([text.SOURCE_COLUMNS, *map(text.source_row, sources)]))
    return DONE


async def _remove(client: Client, options: Namespace) -> int:
    await client.delete_media(options.media_id)
    _write(options, DeleteMediaResponse(), lambda _: f"Deleted {options.media_id}.")
    return DONE


async def _url(client: Client, options: Namespace) -> int:
    link = await client.download_url(
        options.name, selection=_selection(options), lifetime=options.lifetime
    )
    _write(options, link, lambda link: link.url)
    return DONE


async def _download(client: Client, options: Namespace) -> int:
    selection = _selection(options)
    if options.json:
        _write_json(await client.download(options.name, options.output, selection=selection))
        return DONE

    from ingot.progress import Drawing, Rate

    rate = Rate()
    try:
        with Drawing() as drawing:

            def show(done: int, total: int) -> None:
                drawing.step(rate.step("downloading", done, total))

            media = await client.download(
                options.name, options.output, selection=selection, progress=show
            )
    except asyncio.CancelledError:
        sys.stderr.write(
            f"\nWhat has arrived is kept in {options.output}.part; the same command goes on from"
            " there.\n"
        )
        raise
    _write_text(f"{options.output}: {text.size(media.blob.size_bytes)}, checksum verified")
    return DONE


_COMMANDS: Final[Mapping[str, Callable[[Client, Namespace], Awaitable[int]]]] = {
    "ingest": _ingest,
    "upload": _upload,
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


def _selection(options: Namespace) -> Selection | None:
    if not options.audio_only and options.max_height is None:
        return None
    mode = Selection.MODE_AUDIO_ONLY if options.audio_only else Selection.MODE_BEST
    return Selection(mode=mode, max_height=options.max_height)


def _write(options: Namespace, message: Shown, as_text: Callable[[Shown], str]) -> None:
    if options.json:
        _write_json(message)
    else:
        _write_text(as_text(message))


def _write_json(message: Message) -> None:
    # Flushed line by line: whoever reads a pipe wants each state when it comes.
    sys.stdout.write(MessageToJson(message, indent=None) + "\n")
    sys.stdout.flush()


def _write_text(lines: str) -> None:
    sys.stdout.write(lines + "\n")
    sys.stdout.flush()
