"""What /metrics returns.

These are the values of all processes that are scraped together, and what Redis has of the whole
installation.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from ingot.v1 import job_pb2
from ingot_server.api.installation import Installation, InstallationState
from ingot_server.api.plain_http import refuse_method, respond
from ingot_server.cookie_health import COOKIES_STATES, cookies_state_name
from ingot_server.errors import Failure
from ingot_server.jobs.measurements import kind_label, state_label
from ingot_server.jobs.placement import Work
from ingot_server.jobs.workers import VERSION
from ingot_server.metrics import definitions
from ingot_server.metrics.values import VALUES, Snapshot, Values, read_shared
from ingot_server.sources import SOURCES

PATH: Final = "/metrics"
SERVICE: Final = "metrics"
"""What INGOT_OPEN_SERVICES calls it."""
# Prometheus waits for 10 seconds by default.
_REDIS_SECONDS: Final = 5.0
_KINDS: Final = tuple(kind for kind in job_pb2.JobKind.values() if kind)


class MetricsReport:
    """The metrics of a process.

    `installation` is for an API server. `directory` is where the values of several processes are
    (metrics/values.py); None means that this process is scraped alone.
    """

    def __init__(
        self, installation: Installation | None = None, directory: Path | None = None
    ) -> None:
        self._installation = installation
        self._directory = directory
        definitions.BUILD.tell(VERSION)

    async def serve(self, scope: Any, send: Any) -> None:
        """Respond to a request of a caller that may read the metrics."""
        if scope["method"] not in {"GET", "HEAD"}:
            await refuse_method(send)
            return
        accept = b", ".join(value for name, value in scope["headers"] if name == b"accept")
        body, content_type = await self.text(accept.decode("latin-1"))
        await respond(send, HTTPStatus.OK, body, content_type.encode())

    async def text(self, accept: str = "") -> tuple[bytes, str]:
        """Return the metrics and their content type, which a header `accept` chooses.

        While Redis cannot be used, those of the installation are missing.
        """
        known: list[Snapshot] = []
        if self._installation is not None:
            try:
                async with asyncio.timeout(_REDIS_SECONDS):
                    known.append(of_installation(await self._installation.read()))
            except (Failure, TimeoutError):
                pass  # ingot_store_up says so
        return await asyncio.to_thread(self._text, known, accept)

    def _text(self, known: Iterable[Snapshot], accept: str) -> tuple[bytes, str]:
        # Only now: a worker that is not scraped has no use for the library.
        from ingot_server.metrics.exposition import text_of

        own = read_shared(self._directory) if self._directory is not None else [VALUES.snapshot()]
        return text_of((*known, *own), accept)


def of_installation(state: InstallationState) -> Snapshot:
    """Return the metrics of the installation, also those that are 0."""
    values = Values()
    now = time.time()
    queues = {queue.kind: queue for queue in state.queues}
    for kind in _KINDS:
        label, queue = kind_label(kind), queues.get(kind)
        queued, running = (queue.queued, queue.running) if queue is not None else (0, 0)
        age = 0.0
        if queue is not None and queued:
            age = max(0.0, now - queue.oldest_queued_time.ToNanoseconds() / 1e9)
        queued_label = state_label(job_pb2.JOB_STATE_QUEUED)
        running_label = state_label(job_pb2.JOB_STATE_RUNNING)
        definitions.JOBS.set(queued, label, queued_label, into=values)
        definitions.JOBS.set(running, label, running_label, into=values)
        definitions.QUEUE_AGE.set(age, label, into=values)
    for work in Work:
        definitions.WORKERS.set(len(state.workers_for(work)), work, into=values)
    for source in SOURCES:
        is_open = source.name in state.open_breakers
        definitions.BREAKER_OPEN.set(float(is_open), source.name, into=values)
    for name, cookies in state.cookies.items():
        for number in COOKIES_STATES:
            is_state = float(number == cookies.state)
            definitions.COOKIES.set(is_state, name, cookies_state_name(number), into=values)
    definitions.REDIS_USED.set(float(state.redis_memory["used_memory"]), into=values)
    definitions.REDIS_LIMIT.set(float(state.redis_memory["maxmemory"]), into=values)
    return values.snapshot()
