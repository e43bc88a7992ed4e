"""Watching jobs on the command line: a bar for each job, and for each running entry of a list."""

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
from ingot.system_report import error_lines
from ingot.v1.job_pb2 import Job, JobState
from ingot.v1.job_service_pb2 import SnapshotEnd

if TYPE_CHECKING:
    from ingot.progress import ProgressDisplay

MAX_CONCURRENT_READS: Final = 16
# How long a job may wait before people ask why.
WAITING_SECONDS: Final = 5.0


async def watch_to_end(client: Client, handles: Sequence[IngestJob], options: Namespace) -> bool:
    """Watch jobs until they end, then print their results; return whether all succeeded.

    Raises the error of the job if it is the only one and failed.
    """
    with job_hints(handles), open_display(options, show_names=len(handles) > 1) as display:
        await show_updates(client, handles, display)
    if len(handles) == 1 and (failure := handles[0].error()) is not None:
        await _print_failed_children(client, handles[0].latest, options)
        raise failure
    return all([await _print_result(client, handle, options) for handle in handles])


def open_display(
    options: Namespace, *, show_names: bool = False
) -> AbstractContextManager[ProgressDisplay | None]:
    """Open a display of progress; None with `--json` or `--quiet`."""
    if options.json or options.quiet:
        return contextlib.nullcontext()
    from ingot.progress import ProgressDisplay  # rich takes a tenth of a second to load

    return ProgressDisplay(show_names=show_names)


@contextlib.contextmanager
def job_hints(handles: Sequence[IngestJob]) -> Iterator[None]:
    """Say how to watch or cancel the running jobs if the command ends before they do."""
    try:
        yield
    except asyncio.CancelledError:
        for handle in handles:
            if not handle.done:
                sys.stderr.write(
                    f"\nThe job is still running. To watch it, run `ingot watch {handle.id}`; to"
                    f" cancel it, run `ingot cancel {handle.id}`.\n"
                )
        raise
    except ServiceUnavailable as error:
        commands = [f"`ingot watch {handle.id}`" for handle in handles if not handle.done]
        if commands:
            error.add_note(f"The job is still running. To watch it, run {' and '.join(commands)}.")
        raise


async def show_updates(
    client: Client,
    handles: Sequence[IngestJob],
    display: ProgressDisplay | None,
    share: float = 1.0,
) -> None:
    """Show the updates of jobs until they end; without a `display` print each as JSON.

    `share` is the part of the bar that the job has, if something else follows in it.
    """
    if display is None:
        await _gather_or_cancel(_print_updates(handle) for handle in handles)
        return
    explaining = asyncio.create_task(_explain_waiting(client, handles, display))
    try:
        await _gather_or_cancel(
            _display_updates(client, handle, display, share) for handle in handles
        )
    finally:
        explaining.cancel()
        await asyncio.gather(explaining, return_exceptions=True)


async def _explain_waiting(
    client: Client, handles: Sequence[IngestJob], display: ProgressDisplay
) -> None:
    """Say what keeps jobs from running, if one still waits after a while."""
    await asyncio.sleep(WAITING_SECONDS)
    if any(_may_wait_for_workers(handle.latest) for handle in handles):
        with contextlib.suppress(IngotError):
            for line in error_lines(await client.system()):
                display.print_line(line)


def _may_wait_for_workers(job: Job) -> bool:
    """Return whether a job, or one that it consists of, may not have begun."""
    return job.state == JobState.JOB_STATE_QUEUED or (
        job.state == JobState.JOB_STATE_RUNNING and job.HasField("children")
    )


async def get_children(client: Client, job: Job) -> list[Job]:
    """Return the child jobs of a job, in its order, without those whose records have expired."""
    semaphore = asyncio.Semaphore(MAX_CONCURRENT_READS)

    async def get_child(job_id: str) -> Job | None:
        async with semaphore:
            try:
                return (await client.job(job_id)).latest
            except IngotError as error:
                if error.reason != "JOB_NOT_FOUND":
                    raise
                return None

    children = await asyncio.gather(*(get_child(job_id) for job_id in job.child_job_ids))
    return [child for child in children if child is not None]


async def _gather_or_cancel(coroutines: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run all coroutines; if one raises, cancel the others, wait for them, and raise its error."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
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


async def _display_updates(
    client: Client,
    handle: IngestJob,
    display: ProgressDisplay,
    share: float,
) -> None:
    children: asyncio.Task[None] | None = None
    try:
        async with aclosing(aiter(handle)) as updates:
            async for job in updates:
                display.show_job(job, share)
                is_list = job.child_job_ids and not render.converts_one_item(job)
                shows_children = is_list and not handle.done
                if children is None and shows_children and display.has_bars:
                    children = asyncio.create_task(_display_children(client, job, display))
    finally:
        if children is not None:
            children.cancel()
            await asyncio.gather(children, return_exceptions=True)
            for job_id in handle.latest.child_job_ids:
                display.remove_child(job_id)


async def _display_children(client: Client, parent: Job, display: ProgressDisplay) -> None:
    """Display a bar for each child job while it runs."""
    child_ids = frozenset(parent.child_job_ids)
    # The bars of the children are optional: an error must not end the command.
    with contextlib.suppress(IngotError):
        running = client.watch_jobs(states=[JobState.JOB_STATE_RUNNING])
        async with aclosing(running) as updates:
            async for update in updates:
                if isinstance(update, SnapshotEnd) or update.id not in child_ids:
                    continue
                if isinstance(update, Job) and update.state == JobState.JOB_STATE_RUNNING:
                    display.show_child(update)
                else:
                    display.remove_child(update.id)


async def _print_result(client: Client, handle: IngestJob, options: Namespace) -> bool:
    """Print what a job stored, or why it failed; return whether it succeeded."""
    job = handle.latest
    await _print_failed_children(client, job, options)
    if (error := handle.error()) is not None:
        error_text.write_error(error, server=options.server, as_json=options.json, subject=job.url)
        return False
    if not options.json:
        is_list = job.child_job_ids and not render.converts_one_item(job)
        write_text(render.job_table(job) if is_list else render.media_table(job.media))
        for conversion in job.conversions:
            write_text("\n" + render.media_table(conversion))
    return True


async def _print_failed_children(client: Client, job: Job, options: Namespace) -> None:
    # The error of a job with recipes is that of the first conversion that failed.
    if options.json or job.children.failed <= (1 if render.converts_one_item(job) else 0):
        return
    for child in await get_children(client, job):
        if child.state == JobState.JOB_STATE_FAILED:
            error = from_status(child.error)
            reason = f" [{error.reason}]" if error.reason else ""
            is_conversion = render.converts_one_item(job) and child.recipes
            name = child.display_name or child.url
            subject = render.recipe(child.recipes[0]) if is_conversion else name
            sys.stderr.write(render.printable(f"{subject}: {error.message}{reason}") + "\n")
    sys.stderr.flush()
