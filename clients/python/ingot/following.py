"""Watches jobs to their ends on the command line: a bar for each, and for parts of a playlist."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from argparse import Namespace
from collections.abc import Coroutine, Iterable, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

from google.protobuf.json_format import MessageToJson

from ingot import report, text
from ingot.client import Client
from ingot.errors import IngotError, ServiceUnavailable, from_status
from ingot.job import IngestJob
from ingot.v1.job_pb2 import Job, JobState

if TYPE_CHECKING:
    from ingot.progress import Drawing

CHILDREN_AT_ONCE: Final = 16


async def follow(client: Client, handles: Sequence[IngestJob], options: Namespace) -> bool:
    """Shows jobs to their ends, then what they made; whether all of them succeeded.

    Raises the error of a job that is followed alone.
    """
    try:
        if options.json:
            await _together(_print_updates(handle) for handle in handles)
        else:
            from ingot.progress import Drawing  # rich takes a tenth of a second to load

            with Drawing(several=len(handles) > 1) as drawing:
                await _together(_draw(client, handle, drawing) for handle in handles)
    except asyncio.CancelledError:
        for handle in handles:
            if not handle.done:
                sys.stderr.write(
                    f"\nThe job goes on. Watch it with `ingot watch {handle.id}`, stop it with"
                    f" `ingot cancel {handle.id}`.\n"
                )
        raise
    except ServiceUnavailable as error:
        going = [f"`ingot watch {handle.id}`" for handle in handles if not handle.done]
        if going:
            error.add_note(f"The job goes on. Watch it with {', '.join(going)}.")
        raise
    if len(handles) == 1 and (failure := handles[0].error()) is not None:
        await _say_failed_children(client, handles[0].latest, options)
        raise failure
    return all([await _say_end(client, handle, options) for handle in handles])


async def children(client: Client, job: Job) -> list[Job]:
    """The jobs that are parts of one, in its order; without those whose records are gone."""
    turns = asyncio.Semaphore(CHILDREN_AT_ONCE)

    async def read(job_id: str) -> Job | None:
        async with turns:
            try:
                return (await client.job(job_id)).latest
            except IngotError as error:
                if error.reason != "JOB_NOT_FOUND":
                    raise
                return None

    found = await asyncio.gather(*(read(job_id) for job_id in job.child_job_ids))
    return [child for child in found if child is not None]


async def _together(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Runs all to their ends; what one raises ends the others."""
    tasks = [asyncio.create_task(each) for each in work]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _print_updates(handle: IngestJob) -> None:
    async with aclosing(aiter(handle)) as updates:
        async for job in updates:
            sys.stdout.write(MessageToJson(job, indent=None) + "\n")
            sys.stdout.flush()


async def _draw(client: Client, handle: IngestJob, drawing: Drawing) -> None:
    parts: asyncio.Task[None] | None = None
    try:
        async with aclosing(aiter(handle)) as updates:
            async for job in updates:
                drawing.job(job)
                if parts is None and job.child_job_ids and not handle.done and drawing.has_bars:
                    parts = asyncio.create_task(_draw_children(client, job, drawing))
    finally:
        if parts is not None:
            parts.cancel()
            await asyncio.gather(parts, return_exceptions=True)
            for job_id in handle.latest.child_job_ids:
                drawing.remove(job_id)


async def _draw_children(client: Client, parent: Job, drawing: Drawing) -> None:
    """A bar for each part that runs, as long as it does."""
    mine = frozenset(parent.child_job_ids)
    # The bars are a comfort: the total goes on without them.
    with contextlib.suppress(IngotError):
        running = client.watch_jobs(states=[JobState.JOB_STATE_RUNNING])
        async with aclosing(running) as updates:
            async for job in updates:
                if job.id not in mine:
                    continue
                if job.state == JobState.JOB_STATE_RUNNING:
                    drawing.part(job)
                else:
                    drawing.remove(job.id)


async def _say_end(client: Client, handle: IngestJob, options: Namespace) -> bool:
    job = handle.latest
    await _say_failed_children(client, job, options)
    if (error := handle.error()) is not None:
        report.failed(error, server=options.server, as_json=options.json, about=job.url)
        return False
    if not options.json:
        shown = text.job_table(job) if job.child_job_ids else text.media_table(job.media)
        sys.stdout.write(shown + "\n")
        sys.stdout.flush()
    return True


async def _say_failed_children(client: Client, job: Job, options: Namespace) -> None:
    if options.json or not job.children.failed:
        return
    for child in await children(client, job):
        if child.state == JobState.JOB_STATE_FAILED:
            error = from_status(child.error)
            reason = f" [{error.reason}]" if error.reason else ""
            sys.stderr.write(text.printable(f"{child.url}: {error.message}{reason}") + "\n")
    sys.stderr.flush()
