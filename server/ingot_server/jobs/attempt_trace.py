"""The span of an attempt: in the trace of the call that made the job, and linked to the last one.

Both are in the record: a job that is dispatched again, to whichever worker, goes on in its trace.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from ingot_server.errors import Failure
from ingot_server.jobs.lifecycle import is_preview
from ingot_server.jobs.measurements import kind_label
from ingot_server.jobs.outcomes import Claim, LeaseLost
from ingot_server.jobs.records import Records
from ingot_server.tracing import scopes


@asynccontextmanager
async def tracing_attempt(records: Records, claim: Claim) -> AsyncIterator[None]:
    """Trace what the calling task does for a claimed job while the context is open.

    The span begins with the claim. What it fails with is told by `scopes.fail`.
    """
    recorder = scopes.recorder()
    if recorder is None:
        yield
        return
    job = claim.job
    kind = "preview" if is_preview(job) else kind_label(job.kind).lower()
    span = recorder.attempt(kind, claim.trace, follows=claim.former_attempt, began=claim.began)
    span.set(
        job_id=job.id,
        media_id=job.media.id,
        source=job.media.source.name,
        attempt=job.attempt,
    )
    scope = scopes.enter(span)
    try:
        if span.is_recorded:
            span.part("claim", began=claim.began).end()
            # Without it, the next attempt is not linked to this one.
            with suppress(Failure, LeaseLost):
                await records.renew(job.id, claim.token, attempt_trace=span.traceparent)
        yield
    finally:
        scope.end()
