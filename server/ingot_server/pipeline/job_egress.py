"""The egress grant of a job: it may use the egress proxy until its fetch has ended."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ingot_server.egress.bandwidth import Bandwidth
from ingot_server.egress.proxy import EgressProxy
from ingot_server.jobs.throttle import SourceThrottle
from ingot_server.pipeline.attempt import Attempt


class JobEgress:
    """Grants the jobs of a worker the use of its egress proxy."""

    def __init__(self, egress: EgressProxy, throttle: SourceThrottle) -> None:
        self._egress = egress
        self._throttle = throttle
        self._bandwidths: dict[str, Bandwidth] = {}

    @contextlib.contextmanager
    def granted(self, attempt: Attempt, *, trusted: tuple[str, int] | None = None) -> Iterator[str]:
        """Yield the URL of the egress proxy, a secret that is valid while the body runs.

        Requests go through the source's own upstream proxy if it has one, and share its bandwidth.
        For `trusted`, see `EgressProxy.grant`.
        """
        source = attempt.source.name
        if source not in self._bandwidths:
            self._bandwidths[source] = Bandwidth(self._throttle.bandwidth_of(source))
        grant = self._egress.grant(
            attempt.job.id,
            self._throttle.proxy_for(source),
            trusted=trusted,
            bandwidth=self._bandwidths[source],
        )
        try:
            yield grant.proxy_url
        finally:
            grant.revoke()
