"""Retries: jobs like ones that have failed."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from ingot.v1 import job_pb2, reason_pb2
from ingot.v1.job_pb2 import Job
from ingot.v1.job_service_pb2 import RetryJobRequest
from ingot_server.api.admission import Admission
from ingot_server.api.cached_jobs import job_of
from ingot_server.api.caller import CALLER
from ingot_server.drafts import identified, requested_url, wanting_result
from ingot_server.errors import Failure
from ingot_server.intake import Decision, Intake, Needed
from ingot_server.jobs.lifecycle import ingest_kind
from ingot_server.library.catalog import Catalog
from ingot_server.library.tenants import TENANT
from ingot_server.sources.upload import upload_id_of

FAILED: Final = frozenset({job_pb2.JOB_STATE_FAILED, job_pb2.JOB_STATE_CANCELLED})


class Retries:
    """Creates jobs from the records of failed ones, by the same decision as for new requests."""

    def __init__(self, catalog: Catalog, intake: Intake, admission: Admission) -> None:
        self._catalog = catalog
        self._intake = intake
        self._admission = admission

    async def close(self) -> None:
        """Wait for the jobs that are being created, also for callers that hung up."""
        await self._admission.close()

    async def earlier(self, request: RetryJobRequest) -> Job | None:
        """Return the job that an earlier call with the same request_id got, however it ended."""
        return await self._admission.earlier(request)

    async def retry(self, job: Job, request: RetryJobRequest) -> Job:
        """Return a job with the request of `job`: a new one, a running one, or one that ended.

        Raises Failure JOB_NOT_FAILED for a job that has not failed, and whatever refuses the
        request now.
        """
        if job.state not in FAILED:
            raise Failure(
                reason_pb2.REASON_JOB_NOT_FAILED,
                f"The job {job.id} has not failed, so it cannot be retried. Watch it instead.",
            )
        if CALLER.get().tenant:
            # What an administrator retries for a tenant is the tenant's.
            TENANT.set(job.requested_by)
        await self._catalog.forget_failure(job.media.id)
        result = await self._admission.carry_out(
            await self._decide(job), request, upload_id=upload_id_of(job.url)
        )
        return job_of(result)

    async def _decide(self, job: Job) -> Decision:
        if job.kind == job_pb2.JOB_KIND_CONVERT:
            parent_id, manifest = await self._catalog.find(job.media.derived_from_media_id)
            if manifest is None:
                raise Failure(
                    reason_pb2.REASON_MEDIA_NOT_FOUND,
                    f"The media item {parent_id}, which the job converted, is not stored any more. "
                    "Convert its URL instead.",
                )
            return await self._intake.decide_conversion(manifest.media, job.recipes[0], job)
        resolved_url = self._intake.resolve(requested_url(job), job.selection, job.options)
        self._intake.check_destination(resolved_url)
        draft = identified(_draft(job), resolved_url)
        converts = bool(job.media.derived_from_media_id)
        decision = await self._intake.decide(resolved_url, draft, converts=converts)
        if converts and isinstance(decision, Needed) and decision.job.kind == draft.kind:
            return replace(decision, job=wanting_result(decision.job))
        return decision


def _draft(job: Job) -> Job:
    """Return what the caller of `job` requested."""
    draft = Job(
        kind=ingest_kind(job.recipes),
        priority=job.priority,
        requested_by=job.requested_by,
        display_name=job.display_name,
        labels=job.labels,
        options=job.options if job.HasField("options") else None,
        recipes=job.recipes,
        list_title=job.list_title,
    )
    if job.HasField("max_age"):
        draft.max_age.CopyFrom(job.max_age)
    return draft
