"""Drafts of jobs: what a caller requested, with the media item that it is about.

A draft has no id and no state yet. `intake.py` decides whether it becomes a job.
"""

from __future__ import annotations

from ingot.v1 import job_pb2
from ingot.v1.job_pb2 import Job
from ingot.v1.media_pb2 import Media
from ingot.v1.recipe_pb2 import Recipe
from ingot_server.jobs.changes import described
from ingot_server.jobs.display_name import name_of_url
from ingot_server.jobs.lifecycle import copy_of
from ingot_server.library.identity import media_id
from ingot_server.library.recipes import derived_media, single_flight_key
from ingot_server.resolve import ResolvedUrl
from ingot_server.sources.upload import content_identity, upload_id_of


def identified(draft: Job, resolved_url: ResolvedUrl) -> Job:
    """Return a copy of `draft` that says which media item it is about.

    A draft without a name is named after the URL.
    """
    job = copy_of(draft)
    job.url, job.fetch_url = resolved_url.identity.url, resolved_url.identity.fetch_url
    job.display_name = draft.display_name or name_of_url(job.url)
    job.selection.CopyFrom(resolved_url.selection)
    job.media.CopyFrom(resolved_url.identity.media(resolved_url.media_id))
    job.media.selection.CopyFrom(resolved_url.selection)
    return job


def requested_url(job: Job) -> str:
    """Return the URL of a job as its caller wrote it."""
    return job.fetch_url or job.url


def flight_key(job: Job) -> str:
    """Return the single-flight key of a new job; empty if that is its media id.

    What is in an upload is not known before a worker has read it, whatever checksum its caller has
    announced. So uploads do not share a job: a wrong one would fail the right one, too. Of two
    with the same content, the second finds the media item of the first.
    """
    upload_id = upload_id_of(job.url)
    return f"upload:{upload_id}:{job.kind}" if upload_id else single_flight_key(job)


def with_content(draft: Job, sha256: str) -> Job:
    """Return a copy of the `identified` draft of an upload whose content has this SHA-256."""
    job = copy_of(draft)
    identity = content_identity(sha256)
    job.media.MergeFrom(identity.media(media_id(identity.key, draft.selection)))
    return job


def wanting_result(draft: Job) -> Job:
    """Return a copy of an `identified` draft that wants only the result of its one recipe."""
    job = copy_of(draft)
    job.media.CopyFrom(derived_media(draft.media, draft.recipes[0]))
    return job


def conversion_job(parent: Media, recipe: Recipe, requested: Job) -> Job:
    """Return the draft of the job for one conversion, with what `requested` says of its caller."""
    job = Job(
        kind=job_pb2.JOB_KIND_CONVERT,
        display_name=name_of_url(parent.url) or parent.id,
        priority=requested.priority,
        requested_by=requested.requested_by,
        url=parent.url,
        labels=requested.labels,
        selection=parent.selection,
        recipes=[recipe],
        media=derived_media(parent, recipe),
        list_title=requested.list_title,
    )
    described(parent)(job)
    return job
