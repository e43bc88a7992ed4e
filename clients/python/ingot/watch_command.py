"""Watches jobs to their ends on the command line: a bar for each, and for parts of a playlist."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from argparse import Namespace
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, aclosing
from typing import TYPE_CHECKING, Any, Final

from ingot import error_text, render
from ingot.client import Client
from ingot.errors import IngotError, ServiceUnavailable, from_status
from ingot.job import IngestJob
from ingot.output import write_json, write_text
from ingot.overall_progress import OverallProgress, converts
from ingot.v1.job_pb2 import Job, JobState

if TYPE_CHECKING:
    from ingot.progress import Drawing

CHILDREN_AT_ONCE: Final = 16


async def follow(client: Client, handles: Sequence[IngestJob], options: Namespace) -> bool:
    """Shows jobs to their ends, then what they made; whether all of them succeeded.

    Raises the error of a job that is followed alone.
    """
    with leaving(handles), showing(options, several=len(handles) > 1) as drawing:
        await watch(client, handles, drawing)
    if len(handles) == 1 and (failure := handles[0].error()) is not None:
        await _say_failed_children(client, handles[0].latest, options)
        raise failure
    return all([await _say_end(client, handle, options) for handle in handles])


def showing(options: Namespace, *, several: bool = False) -> AbstractContextManager[Drawing | None]:
    """Where progress is shown; nowhere with `--json`."""
    if options.json:
        return contextlib.nullcontext()
    from ingot.progress import Drawing  # rich takes a tenth of a second to load

    return Drawing(several=several)


@contextlib.contextmanager
def leaving(handles: Sequence[IngestJob]) -> Iterator[None]:
    """Says how to go on with those that have not ended, when the command ends before them."""
    try:
        yield
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


async def watch(
    client: Client,
    handles: Sequence[IngestJob],
    drawing: Drawing | None,
    whole: OverallProgress | None = None,
) -> None:
    """Shows jobs until they end, without a `drawing` as JSON, a line for each change.

    `whole` is what a job is a part of, where it is watched alone.
    """
    if drawing is None:
        await _together(_print_updates(handle) for handle in handles)
    else:
        await _together(_draw(client, handle, drawing, whole) for handle in handles)


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
            write_json(job)


async def _draw(
    client: Client, handle: IngestJob, drawing: Drawing, whole: OverallProgress | None = None
) -> None:
    parts: asyncio.Task[None] | None = None
    if whole is None and converts(handle.latest):
        whole = OverallProgress(fetched=False)
    try:
        async with aclosing(aiter(handle)) as updates:
            async for job in updates:
                drawing.job(job, whole)
                # What has a bar for the whole of it has none for its parts.
                divided = job.child_job_ids and not handle.done and whole is None
                if parts is None and divided and drawing.has_bars:
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
        error_text.failed(error, server=options.server, as_json=options.json, about=job.url)
        return False
    if not options.json:
        is_list = job.child_job_ids and not converts(job)
        write_text(render.job_table(job) if is_list else render.media_table(job.media))
        for made in job.conversions:
            write_text("\n" + render.media_table(made))
    return True


async def _say_failed_children(client: Client, job: Job, options: Namespace) -> None:
    # Of several recipes the job's own error is that of the first that failed.
    if options.json or job.children.failed <= (1 if converts(job) else 0):
        return
    for child in await children(client, job):
        if child.state == JobState.JOB_STATE_FAILED:
            error = from_status(child.error)
            reason = f" [{error.reason}]" if error.reason else ""
            what = render.recipe(child.recipes[0]) if converts(job) and child.recipes else child.url
            sys.stderr.write(render.printable(f"{what}: {error.message}{reason}") + "\n")
    sys.stderr.flush()
