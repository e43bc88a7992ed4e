"""Job records that tests start with."""

from __future__ import annotations

from collections.abc import Mapping

from ingot.v1 import job_pb2
from ingot.v1.job_pb2 import Job
from ingot.v1.media_pb2 import Media
from ingot_server.jobs.records import Records


def new_job(
    media_id: str = "media",
    *,
    state: job_pb2.JobState.ValueType = job_pb2.JOB_STATE_UNSPECIFIED,
    cached: bool = False,
    labels: Mapping[str, str] | None = None,
) -> Job:
    return Job(
        kind=job_pb2.JOB_KIND_INGEST,
        media=Media(id=media_id),
        state=state,
        cached=cached,
        labels=labels,
    )


async def queued_job(records: Records, media_id: str = "media", **labels: str) -> Job:
    """Create a job."""
    return (await records.create(new_job(media_id, labels=labels))).job


async def claimed_job(records: Records, media_id: str = "media") -> tuple[Job, str]:
    """Create and claim a job; return it with its lease's token."""
    job = await queued_job(records, media_id)
    claim = await records.claim(job.id)
    assert claim is not None
    return claim.job, claim.token
