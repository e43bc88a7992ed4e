"""An ingest with conversions: one parent job, and a child for each part of the work.

    the ingest, followed by the parent's worker -> conversions, left to their own workers -> the end

The parent takes part in none of it, so whatever of it is stored, or under way for somebody else,
is shared. Running it again, after a worker was lost, finds the children that are there. Its
progress is that of the whole: each part counts the same, and it never goes back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from ingot.v1 import job_pb2, reason_pb2
from ingot.v1.job_pb2 import Job
from ingot.v1.media_pb2 import Media
from ingot.v1.recipe_pb2 import Recipe
from ingot_server.errors import Failure
from ingot_server.jobs.lease import Lease
from ingot_server.jobs.lifecycle import has_ended
from ingot_server.library.catalog import Catalog
from ingot_server.library.recipe_formats import format_of
from ingot_server.library.recipes import check_applicable, derived_media
from ingot_server.library.side_file_requests import is_thumbnail_sought
from ingot_server.pipeline.worker_context import WorkerContext
from ingot_server.transcode.speculative import Speculation

# Which part of an ingest each stage is about.
_SHARES: Final = {
    job_pb2.JOB_STAGE_RESOLVING: (0.0, 0.02),
    job_pb2.JOB_STAGE_DOWNLOADING: (0.02, 0.90),
    job_pb2.JOB_STAGE_PROBING: (0.90, 0.94),
    job_pb2.JOB_STAGE_STORING: (0.94, 0.98),
    job_pb2.JOB_STAGE_COMMITTING: (0.98, 1.0),
}


async def run_workflow(context: WorkerContext, job: Job, lease: Lease) -> None:
    """Has the media ingested, and leaves the job to its conversions: the lease is given up.

    Raises Failure: what the ingest failed with. Safe to repeat.
    """
    ingest = await lease.add_child(await _ingest(context, job), entry="ingest", order=0)
    async with (
        context.scratch.folder(job.id, job.attempt) as folder,
        context.speculative.speculate(job.media.id, job.recipes, folder) as speculation,
    ):
        media = await _ingested(context, ingest, lease)
        conversions = await _add_conversions(context, media, lease)
        here = [
            each
            for each in conversions
            if speculation.holds(media.blob.sha256) and not has_ended(each)
        ]
        here = here[: context.speculative.reserve(speculation, len(here))]
        # Taken up here before the workers of conversions hear of them.
        running = [asyncio.create_task(_convert_here(context, each, speculation)) for each in here]
        try:
            await lease.wait([ingest.id, *(each.id for each in conversions)])
            await context.playlists.advance(job.id)
        finally:
            await _finish(running)


async def _ingested(context: WorkerContext, ingest: Job, lease: Lease) -> Media:
    try:
        mirror = _mirroring(lease, len(lease.job.recipes))
        media = await context.job_waiter.result(ingest.id, mirror)
    except Failure as failure:
        failure.final = True  # the ingest has had its own tries
        raise
    if media is None:
        raise Failure(
            reason_pb2.REASON_CANCELLED, f"The ingest {ingest.id} was cancelled.", final=True
        )
    return media


async def _add_conversions(context: WorkerContext, media: Media, lease: Lease) -> list[Job]:
    children = []
    for order, recipe in enumerate(lease.job.recipes, 1):
        conversion = await conversion_job(context.catalog, media, recipe, lease.job)
        children.append(await lease.add_child(conversion, entry=conversion.media.id, order=order))
    return children


async def _convert_here(context: WorkerContext, conversion: Job, speculation: Speculation) -> None:
    try:
        await context.job_waiter.run_job(conversion.id)
    finally:
        speculation.abandon(conversion.recipes[0])


async def _finish(running: Sequence[asyncio.Task[None]]) -> None:
    """Waits for jobs that run here; stops them when it is itself to stop."""
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


async def conversion_job(catalog: Catalog, media: Media, recipe: Recipe, parent: Job) -> Job:
    """The job for one recipe, ended already where it is stored or cannot be."""
    job = Job(
        kind=job_pb2.JOB_KIND_CONVERT,
        url=media.url,
        labels=parent.labels,
        selection=media.selection,
        recipes=[recipe],
        media=derived_media(media, recipe),
        list_title=parent.list_title,
    )
    try:
        check_applicable(recipe, media)
    except Failure as failure:
        job.state = job_pb2.JOB_STATE_FAILED
        job.error.CopyFrom(failure.status())
        return job
    stored = await catalog.conversion(media, recipe)
    if stored is not None:
        job.state = job_pb2.JOB_STATE_SUCCEEDED
        job.cached = True
        job.media.CopyFrom(stored)
    return job


async def _ingest(context: WorkerContext, job: Job) -> Job:
    """The job for the media itself, with its thumbnail where that is to be a cover.

    For what is stored the source is not asked again: that one stays without.
    """
    ingest = Job(
        kind=job_pb2.JOB_KIND_INGEST,
        url=job.url,
        labels=job.labels,
        selection=job.selection,
        options=job.options,
        media=job.media,
        list_title=job.list_title,
    )
    if any(format_of(recipe).has_cover for recipe in job.recipes):
        _, stored = await context.catalog.find(job.media.id)
        if stored is None or is_thumbnail_sought(stored):
            ingest.options.thumbnail = True
    if job.HasField("max_age"):
        ingest.max_age.CopyFrom(job.max_age)
    return ingest


def _mirroring(lease: Lease, conversions: int) -> Callable[[Job], None]:
    """Has the parent show the stage of its ingest, and how far the whole is."""

    def seen(ingest: Job) -> None:
        begin, end = _SHARES.get(ingest.stage, (0.0, 0.0))
        share = begin + (end - begin) * ingest.progress.fraction

        def mutate(job: Job) -> None:
            job.stage = ingest.stage
            job.progress.bytes_done = ingest.progress.bytes_done
            job.progress.bytes_per_second = ingest.progress.bytes_per_second
            job.progress.fraction = max(job.progress.fraction, share / (1 + conversions))

        lease.note(mutate)

    return seen
