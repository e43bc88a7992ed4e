"""An ingest with conversions: one parent job, and a child for each part of the work.

    the ingest, awaited by the parent's worker -> conversions, each on its own worker -> the end

The parent does none of the work itself, so whatever is stored, or already runs for another caller,
is shared. If a worker was lost, a second run finds the existing children. Until the ingest has
ended, the parent's progress is that of the ingest and of the conversions that began early.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

from ingot.v1 import job_pb2, reason_pb2
from ingot.v1.job_pb2 import IngestOptions, Job
from ingot.v1.media_pb2 import Media
from ingot.v1.recipe_pb2 import Recipe
from ingot_server.drafts import flight_key, identified, requested_url
from ingot_server.errors import Failure
from ingot_server.intake import Missing, Needed, is_thumbnail_requested
from ingot_server.jobs.changes import mirrored
from ingot_server.jobs.fraction import conversion_fraction, workflow_fraction
from ingot_server.jobs.lease import Lease
from ingot_server.jobs.lifecycle import has_ended
from ingot_server.library.identity import selects_section
from ingot_server.library.recipe_formats import format_of
from ingot_server.library.recipes import recipe_text
from ingot_server.pipeline.await_job import Postponed
from ingot_server.pipeline.worker_context import WorkerContext
from ingot_server.transcode.speculative import Speculation


async def run_workflow(context: WorkerContext, job: Job, lease: Lease) -> None:
    """Have the media item ingested, then leave the job to its conversions and give up the lease.

    If the ingest has to wait, or another worker runs it, the job is left to the ingest, and runs
    again when that has ended.
    Raises Failure: that of the ingest. Safe to repeat.
    """
    wanted = await _ingest(context, job)
    ingest = await lease.add_child(
        wanted, entry="ingest", order=0, single_flight_key=flight_key(wanted)
    )
    async with (
        context.scratch.folder(job.id, job.attempt) as folder,
        context.speculative.speculate(
            job.media.derived_from_media_id or job.media.id, job.recipes, folder
        ) as speculation,
    ):
        try:
            media = await _await_ingest(context, ingest, lease, speculation)
        except Postponed:
            await lease.wait_for_children([ingest.id])
            await context.playlists.advance(job.id)
            return
        conversions = await _add_conversions(context, media, lease)
        here = [
            each
            for each in conversions
            if speculation.holds(media.blob.sha256) and not has_ended(each)
        ]
        here = here[: context.speculative.reserve(speculation, len(here))]
        # They start here before the workers for conversions receive them.
        running = [asyncio.create_task(_convert_here(context, each, speculation)) for each in here]
        try:
            await lease.wait_for_children([ingest.id, *(each.id for each in conversions)])
            await context.playlists.advance(job.id)
        finally:
            await _finish(running)


async def _await_ingest(
    context: WorkerContext, ingest: Job, lease: Lease, speculation: Speculation
) -> Media:
    try:
        media = await context.job_waiter.result(
            ingest.id,
            _mirror(lease, speculation),
            is_new=ingest.parent_job_id == lease.job.id and ingest.attempt == 0,
        )
    except Failure as failure:
        # The ingest has had its own attempts.
        raise failure.as_final() from failure
    if media is None:
        raise Failure(
            reason_pb2.REASON_CANCELLED,
            f"The ingest {ingest.id} was cancelled. Start it again.",
            final=True,
        )
    return media


async def _add_conversions(context: WorkerContext, media: Media, lease: Lease) -> list[Job]:
    children = []
    for order, recipe in enumerate(lease.job.recipes, 1):
        decision = await context.intake.decide_conversion(media, recipe, lease.job)
        entry = decision.job.media.id
        children.append(await lease.add_child(decision.job, entry=entry, order=order))
    return children


async def _convert_here(context: WorkerContext, conversion: Job, speculation: Speculation) -> None:
    try:
        await context.job_waiter.run_job(conversion.id)
    finally:
        speculation.abandon(conversion.recipes[0])


async def _finish(running: Sequence[asyncio.Task[None]]) -> None:
    """Wait for the jobs that run here, and cancel them if this task is cancelled."""
    try:
        if running:
            await asyncio.wait(running)
    finally:
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)
    for task in running:
        task.result()


async def _ingest(context: WorkerContext, job: Job) -> Job:
    """Return the job that ingests the media item, with the side files that its recipes use.

    A source is not asked again for those of a stored media item.
    """
    intake = context.intake
    draft = Job(
        kind=job_pb2.JOB_KIND_INGEST,
        priority=job.priority,
        requested_by=job.requested_by,
        display_name=job.display_name,
        labels=job.labels,
        options=job.options,
        max_age=job.max_age if job.HasField("max_age") else None,
        list_title=job.list_title,
    )
    resolved_url = intake.resolve(requested_url(job), job.selection, job.options)
    decision = await intake.decide(resolved_url, identified(draft, resolved_url))
    if (
        isinstance(decision, Needed)
        and decision.missing is Missing.EVERYTHING
        and (decision.stored is None or is_thumbnail_requested(decision.stored))
        and any(format_of(recipe).has_cover for recipe in job.recipes)
    ):
        decision.job.options.thumbnail = True
    # The subtitles of a section would be those of all of the media.
    is_whole = not selects_section(resolved_url.selection)
    if isinstance(decision, Needed) and decision.stored is None and is_whole:
        _request_subtitles(decision.job.options, job.recipes)
    return decision.job


def _request_subtitles(options: IngestOptions, recipes: Iterable[Recipe]) -> None:
    """Request the subtitles that transcripts can be made from."""
    for recipe in recipes:
        wanted = recipe.transcript
        if wanted.language and wanted.origin != Recipe.Transcript.ORIGIN_SOUND:
            if wanted.language not in options.subtitle_languages:
                options.subtitle_languages.append(wanted.language)
            options.automatic_subtitles = True


def _mirror(lease: Lease, speculation: Speculation) -> Callable[[Job], None]:
    """Return a callback that shows in the parent what the ingest does, and its media."""
    recipes = len({recipe_text(each) for each in lease.job.recipes})

    def on_change(ingest: Job) -> None:
        converted = sum(map(conversion_fraction, speculation.shares.values()))
        fraction = workflow_fraction(ingest.progress.fraction, converted, count=recipes)
        lease.note(mirrored(ingest, fraction=fraction))

    return on_change
