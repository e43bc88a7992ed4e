"""The egress grant of a job: it may use the egress proxy until its fetch has ended."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Final

from ingot.v1 import reason_pb2
from ingot.v1.job_pb2 import JobWaiting
from ingot_server.config import Settings
from ingot_server.egress.bandwidth import Bandwidth
from ingot_server.egress.grants import GrantLimits
from ingot_server.egress.proxy import EgressProxy
from ingot_server.errors import Failure
from ingot_server.event_log import EventLogger
from ingot_server.jobs.daily_bytes import NAME as DAILY_BYTES
from ingot_server.jobs.daily_bytes import next_day
from ingot_server.jobs.job_bytes import JobBytes
from ingot_server.jobs.lease import Lease
from ingot_server.jobs.lifecycle import is_preview
from ingot_server.jobs.outcomes import Deferred
from ingot_server.jobs.throttle import SourceThrottle
from ingot_server.log_events import Event
from ingot_server.metrics.definitions import RECEIVED_BYTES
from ingot_server.pipeline.attempt import Attempt

logger = EventLogger(__name__)

# A job may receive a media item of the largest size, and again after broken transfers.
_SIZES: Final = 3


class JobEgress:
    """Grants the jobs of a worker the use of its egress proxy."""

    def __init__(
        self,
        settings: Settings,
        egress: EgressProxy,
        throttle: SourceThrottle,
        job_bytes: JobBytes,
    ) -> None:
        self._limits = GrantLimits(
            settings.egress_job_bytes or _SIZES * settings.max_media_size,
            settings.egress_job_connections,
        )
        self._egress = egress
        self._throttle = throttle
        self._job_bytes = job_bytes
        self._bandwidths: dict[str, Bandwidth] = {}

    @contextlib.asynccontextmanager
    async def granted(
        self, attempt: Attempt, *, trusted: tuple[str, int] | None = None
    ) -> AsyncIterator[str]:
        """Yield the URL of the egress proxy, a secret that is valid while the body runs.

        Requests go through the source's own upstream proxy if it has one, and share its bandwidth.
        For `trusted`, see `EgressProxy.grant`. If the body fails because the job has received more
        than it may, that is its failure: TOO_LARGE. What it has received counts for its caller.
        """
        source = attempt.source.name
        if source not in self._bandwidths:
            self._bandwidths[source] = Bandwidth(self._throttle.bandwidth_of(source))
        grant = self._egress.grant(
            attempt.job.id,
            self._throttle.proxy_for(source),
            trusted=trusted,
            bandwidth=self._bandwidths[source],
            limits=self._limits,
        )
        try:
            yield grant.proxy_url
        except Failure as failure:
            if grant.exhausted:
                raise Failure(
                    reason_pb2.REASON_TOO_LARGE,
                    f"The job was ended after {self._limits.received_bytes} bytes, which is the "
                    "most that one attempt may receive. If the media is as large as that, raise "
                    "INGOT_EGRESS_JOB_BYTES.",
                    metadata={
                        "limited_by": "ingot",
                        "limit_bytes": str(self._limits.received_bytes),
                    },
                ) from failure
            raise
        finally:
            grant.revoke()
            RECEIVED_BYTES.add(source, amount=grant.bytes_received)
            if attempt.lease.bytes_limited:
                await self._count(attempt.job.id, grant.bytes_received)

    async def _count(self, job_id: str, received_bytes: int) -> None:
        if not received_bytes:
            return
        try:
            await self._job_bytes.count(job_id, received_bytes)
        except Failure as failure:
            # The job itself may go on without Redis for as long as its lease lasts.
            logger.warning(
                Event.TRAFFIC_NOT_COUNTED,
                "job %s: its bytes are not counted: %s",
                job_id,
                failure.message,
                job_id=job_id,
                reason=failure.reason,
            )


async def require_bytes(job_bytes: JobBytes, lease: Lease) -> None:
    """Raise Deferred until the next day if the caller of the job has received enough today.

    No preview waits for that: it raises Failure QUOTA_EXCEEDED. So does a job whose caller has no
    bytes left to store.
    """
    if not lease.bytes_limited:
        return
    job = lease.job
    try:
        await job_bytes.require(job.id, receives=True)
    except Failure as failure:
        if failure.metadata.get("quota") != DAILY_BYTES:
            raise
        if is_preview(job):
            raise failure.as_final() from failure
        waiting = JobWaiting(cause=JobWaiting.CAUSE_QUOTA)
        waiting.end_time.FromDatetime(next_day())
        raise Deferred(waiting) from failure
