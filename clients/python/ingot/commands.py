"""The commands of `ingot`. Results go to stdout, progress and errors to stderr."""

from __future__ import annotations

import contextlib
from argparse import Namespace
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any, Final

from ingot import args_to_request, error_text, render, wrong_input
from ingot.base_client import RECONNECT_TIMEOUT
from ingot.client import Client
from ingot.convert_command import convert_media
from ingot.download_command import download_media
from ingot.errors import IngotError, InvalidRequest, ServiceUnavailable
from ingot.following_command import (
    change_subscription,
    follow,
    list_feeds,
    list_subscriptions,
    make_feed,
)
from ingot.job import IngestJob
from ingot.jobs_command import list_jobs, watch_all_jobs
from ingot.mcp_command import serve_agents
from ingot.output import write, write_stream_table, write_table, write_text
from ingot.quota_report import quota_report
from ingot.resolve_report import resolve_report
from ingot.system_report import error_lines, system_report
from ingot.top_command import is_live, show_top
from ingot.v1.feed_service_pb2 import DeleteFeedResponse
from ingot.v1.job_pb2 import IngestOptions, Job, JobState
from ingot.v1.media_pb2 import MediaKind
from ingot.v1.media_service_pb2 import DeleteMediaResponse
from ingot.watch_command import get_children, watch_to_end
from ingot.webhooks_command import list_deliveries, replay_deliveries

SUCCEEDED: Final = 0
FAILED: Final = 1
WRONG_USAGE: Final = 2


async def run_command(options: Namespace) -> int:
    """Run the command that `options` name, and return its exit code."""
    try:
        client = _make_client(options)
    except (ValueError, OSError) as error:
        error_text.write_usage_error(error)
        return WRONG_USAGE
    try:
        async with client:
            return await _COMMANDS[options.command](client, options)
    except BrokenPipeError:
        raise
    except (IngotError, OSError) as error:
        return _write_error(error, options, _single_name(options))


async def check_token(options: Namespace) -> int:
    """Call the server with the token, and return the exit code.

    A token that may not read is as good as any other: only one that is not known is refused.
    """
    try:
        client = _make_client(options)
    except (ValueError, OSError) as error:
        error_text.write_usage_error(error)
        return WRONG_USAGE
    try:
        async with client:
            await client.sources()
    except IngotError as error:
        if error.code.name != "PERMISSION_DENIED":
            return _write_error(error, options)
    return 0


def _make_client(options: Namespace) -> Client:
    """Make the client that the global options describe. Raises ValueError and OSError."""
    return Client(
        options.server,
        token=options.token,
        ca_file=options.ca,
        certificate_file=options.certificate,
        key_file=options.key,
        metadata=dict(options.headers),
        allow_plaintext_token=options.allow_plaintext_token,
        reconnect_timeout=_reconnect_timeout(options),
    )


def _reconnect_timeout(options: Namespace) -> timedelta:
    """Return for how long to try: without end for a display that says when it is out of date."""
    return timedelta.max if options.command == "top" and is_live(options) else RECONNECT_TIMEOUT


def _write_error(
    error: IngotError | OSError, options: Namespace, name: str = "", *, subject: str = ""
) -> int:
    """Write an error about `name` to stderr, and return the exit code for it.

    `subject` is the name if the text has to tell which one of several it was.
    """
    is_wrong_input = wrong_input.is_wrong_input(error, options.command, name)
    if isinstance(error, InvalidRequest):
        args_to_request.name_options(error, options)
    error_text.write_error(error, server=options.server, as_json=options.json, subject=subject)
    return WRONG_USAGE if is_wrong_input else FAILED


def _single_name(options: Namespace) -> str:
    """Return the id, URL or file that the command is about; empty if there are none or several."""
    for argument in ("job_id", "name"):
        if name := getattr(options, argument, ""):
            return str(name)
    for argument in ("urls", "files", "names"):
        names: list[str] = getattr(options, argument, [])
        if len(names) == 1:
            return names[0]
    return ""


async def _ingest(client: Client, options: Namespace) -> int:
    arguments = args_to_request.ingest(options)

    async def start(url: str) -> Job | IngestJob:
        if options.validate_only:
            return await client.validate(url, **arguments)
        priority = args_to_request.priority(options)
        return await client.ingest_video(url, priority=priority, **arguments)

    return await _run_jobs(client, options, options.urls, start)


async def _resolve(client: Client, options: Namespace) -> int:
    found = await client.resolve(
        options.url,
        selection=args_to_request.selection(options),
        options=IngestOptions(playlist=True) if options.playlist else None,
    )
    write(options, found, resolve_report)
    return SUCCEEDED


async def _upload(client: Client, options: Namespace) -> int:
    arguments = args_to_request.upload(options)

    async def start(path: str) -> Job | IngestJob:
        return await _upload_file(client, path, options, arguments)

    return await _run_jobs(client, options, options.files, start)


async def _run_jobs(
    client: Client,
    options: Namespace,
    names: Sequence[str],
    start: Callable[[str], Awaitable[Job | IngestJob]],
) -> int:
    """Start a job for each name, then watch all of them; return the exit code.

    A Job that `start` returns is only printed. If there are several names, one that fails does not
    stop the others, unless the server cannot be reached.
    """
    handles: list[IngestJob] = []
    code = SUCCEEDED
    for name in names:
        try:
            started = await start(name)
        except (IngotError, OSError) as error:
            if len(names) == 1 or isinstance(error, ServiceUnavailable):
                raise
            # The message of an OSError has the path itself.
            subject = name if isinstance(error, IngotError) else ""
            code = max(code, _write_error(error, options, name, subject=subject))
            continue
        if isinstance(started, Job):
            write(options, started, render.job_table)
        elif options.no_wait:
            write(options, started.latest, render.job_table)
        else:
            handles.append(started)
    if handles and not await watch_to_end(client, handles, options):
        code = max(code, FAILED)
    return code


async def _upload_file(
    client: Client, path: str, options: Namespace, arguments: Mapping[str, Any]
) -> IngestJob:
    if options.json:
        return await client.upload_media(path, **arguments)

    from ingot.progress import ProgressDisplay, RateMeter

    meter, show_names = RateMeter(), len(options.files) > 1
    name = render.printable(path) if show_names else ""
    with ProgressDisplay(show_names=show_names) as display:

        def show(bytes_done: int, bytes_total: int) -> None:
            step = meter.step("uploading", bytes_done, bytes_total)
            display.show_step(replace(step, name=name), path)

        return await client.upload_media(path, progress=show, **arguments)


async def _convert(client: Client, options: Namespace) -> int:
    return SUCCEEDED if await convert_media(client, options) else FAILED


async def _watch(client: Client, options: Namespace) -> int:
    if not options.job_id:
        await watch_all_jobs(client, options)
        return SUCCEEDED
    return await _watch_to_end(client, await client.job(options.job_id), options)


async def _watch_to_end(client: Client, handle: IngestJob, options: Namespace) -> int:
    """Watch a job that others may have started; its failure is not wrong input of this command."""
    try:
        return SUCCEEDED if await watch_to_end(client, [handle], options) else FAILED
    except IngotError as error:
        if handle.error() is None:
            raise
        _write_error(error, options)
        return FAILED


async def _job(client: Client, options: Namespace) -> int:
    job = (await client.job(options.job_id)).latest
    write(options, job, render.job_table)
    if job.child_job_ids:
        children = await get_children(client, job)
        write_table(options, children, render.JOB_COLUMNS, render.job_row)
    return SUCCEEDED


async def _cancel(client: Client, options: Namespace) -> int:
    job = await client.cancel(options.job_id)
    write(options, job, render.job_table)
    return SUCCEEDED if job.state == JobState.JOB_STATE_CANCELLED else FAILED


async def _retry(client: Client, options: Namespace) -> int:
    handle = await client.retry(options.job_id, webhook_url=options.webhook)
    if options.no_wait:
        write(options, handle.latest, render.job_table)
        return SUCCEEDED
    return await _watch_to_end(client, handle, options)


async def _mcp(client: Client, options: Namespace) -> int:
    return SUCCEEDED if await serve_agents(client, options) else FAILED


async def _media(client: Client, options: Namespace) -> int:
    media = await client.media(options.name, selection=args_to_request.selection(options))
    write(options, media, render.media_table)
    return SUCCEEDED


async def _list(client: Client, options: Namespace) -> int:
    media = client.list_media(
        source=options.source,
        kind=MediaKind.Value(f"MEDIA_KIND_{options.kind.upper()}"),
        labels=dict(options.label),
        text=" ".join(options.text),
        derived_from_media_id=options.made_of,
    )
    await write_stream_table(
        options, media, render.MEDIA_COLUMNS, render.media_row, limit=options.limit
    )
    return SUCCEEDED


async def _change_subscriptions(client: Client, options: Namespace) -> int:
    return await _for_each_name(options, partial(change_subscription, client, options))


async def _revoke(client: Client, options: Namespace) -> int:
    async def revoke(name: str) -> None:
        await client.delete_feed(name)
        write(options, DeleteFeedResponse(), lambda _: f"The feed {name} is deleted.")

    return await _for_each_name(options, revoke)


async def _sources(client: Client, options: Namespace) -> int:
    write_table(options, await client.sources(), render.SOURCE_COLUMNS, render.source_row)
    if not options.json:
        with contextlib.suppress(IngotError):
            for line in error_lines(await client.system()):
                write_text(line)
    return SUCCEEDED


async def _system(client: Client, options: Namespace) -> int:
    write(options, await client.system(), system_report)
    return SUCCEEDED


async def _quota(client: Client, options: Namespace) -> int:
    write(options, await client.quota(), quota_report)
    return SUCCEEDED


async def _remove(client: Client, options: Namespace) -> int:
    async def remove(name: str) -> None:
        await client.delete_media(name)
        write(options, DeleteMediaResponse(), lambda _: f"Deleted {name}.")

    return await _for_each_name(options, remove)


async def _pin(client: Client, options: Namespace) -> int:
    pins = options.command == "pin"

    async def pin(name: str) -> None:
        media = await client.update_media(name, pinned=pins)
        write(options, media, lambda _: f"{'Pinned' if pins else 'Unpinned'} {name}.")

    return await _for_each_name(options, pin)


async def _for_each_name(options: Namespace, act: Callable[[str], Awaitable[None]]) -> int:
    for name in options.names:
        try:
            await act(name)
        except IngotError as error:
            subject = name if len(options.names) > 1 else ""
            return _write_error(error, options, name, subject=subject)
    return SUCCEEDED


async def _url(client: Client, options: Namespace) -> int:
    link = await client.download_url(
        options.name, selection=args_to_request.selection(options), lifetime=options.lifetime
    )
    write(options, link, lambda link: link.url)
    return SUCCEEDED


async def _storyboard(client: Client, options: Namespace) -> int:
    found = await client.storyboard(
        options.name, selection=args_to_request.selection(options), lifetime=options.lifetime
    )
    write(options, found, lambda found: found.webvtt)
    return SUCCEEDED


async def _download(client: Client, options: Namespace) -> int:
    await download_media(client, options)
    return SUCCEEDED


def _done(
    command: Callable[[Client, Namespace], Awaitable[None]],
) -> Callable[[Client, Namespace], Awaitable[int]]:
    """Make a command that has succeeded when `command` has ended."""

    async def run(client: Client, options: Namespace) -> int:
        await command(client, options)
        return SUCCEEDED

    return run


_COMMANDS: Final[Mapping[str, Callable[[Client, Namespace], Awaitable[int]]]] = {
    "ingest": _ingest,
    "resolve": _resolve,
    "upload": _upload,
    "convert": _convert,
    "mp3": _convert,
    "media": _media,
    "download": _download,
    "url": _url,
    "storyboard": _storyboard,
    "jobs": _done(list_jobs),
    "top": _done(show_top),
    "mcp": _mcp,
    "job": _job,
    "watch": _watch,
    "cancel": _cancel,
    "retry": _retry,
    "follow": _done(follow),
    "following": _done(list_subscriptions),
    "unfollow": _change_subscriptions,
    "pause": _change_subscriptions,
    "resume": _change_subscriptions,
    "check": _change_subscriptions,
    "feed": _done(make_feed),
    "feeds": _done(list_feeds),
    "revoke": _revoke,
    "webhooks": _done(list_deliveries),
    "replay": _done(replay_deliveries),
    "list": _list,
    "rm": _remove,
    "pin": _pin,
    "unpin": _pin,
    "sources": _sources,
    "system": _system,
    "quota": _quota,
}
