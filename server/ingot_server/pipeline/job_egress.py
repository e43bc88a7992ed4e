"""The egress grant of a job: it may use the egress proxy until its fetch has ended."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

from ingot.v1 import reason_pb2
from ingot_server.config import Settings
from ingot_server.egress.bandwidth import Bandwidth
from ingot_server.egress.grants import GrantLimits
from ingot_server.egress.proxy import EgressProxy
from ingot_server.errors import Failure
from ingot_server.jobs.throttle import SourceThrottle
from ingot_server.pipeline.attempt import Attempt

# A job may receive a media item of the largest size, and again after broken transfers.
_SIZES: Final = 3


class JobEgress:
    """Grants the jobs of a worker the use of its egress proxy."""

    def __init__(self, settings: Settings, egress: EgressProxy, throttle: SourceThrottle) -> None:
        self._limits = GrantLimits(
            settings.egress_job_bytes or _SIZES * settings.max_media_size,
            settings.egress_job_connections,
        )
        self._egress = egress
        self._throttle = throttle
        self._bandwidths: dict[str, Bandwidth] = {}

    @contextlib.contextmanager
    def granted(self, attempt: Attempt, *, trusted: tuple[str, int] | None = None) -> Iterator[str]:
        """Yield the URL of the egress proxy, a secret that is valid while the body runs.

        Requests go through the source's own upstream proxy if it has one, and share its bandwidth.
        For `trusted`, see `EgressProxy.grant`. If the body fails because the job has received more
        than it may, that is its failure: TOO_LARGE.
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
