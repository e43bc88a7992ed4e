"""The progress of a download: bytes, rate, and the time left by the rate of the last seconds."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Final

from ingot.v1 import job_pb2
from ingot.v1.job_pb2 import StageProgress
from ingot_server.asyncio_tasks import cancel_and_wait
from ingot_server.jobs.changes import entered, progressed
from ingot_server.jobs.lease import Lease

WINDOW_SECONDS: Final = 5.0
REPORT_SECONDS: Final = 0.25


class Meter:
    """The measurement of one download. `advance` may be called whenever bytes arrive."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])
        self._done = 0
        self._total: int | None = None

    def advance(self, done: int, total: int | None) -> None:
        """Record that `done` of `total` bytes are done; `total` is None if it is unknown."""
        self._done, self._total = done, total

    def measure(self) -> StageProgress:
        """Return the progress as of now, with the rate of the last five seconds."""
        now = time.monotonic()
        self._samples.append((now, self._done))
        while now - self._samples[0][0] > WINDOW_SECONDS and len(self._samples) > 2:
            self._samples.popleft()
        since, before = self._samples[0]
        # A download that started again has fewer bytes than before; its rate is not negative.
        rate = max(0.0, (self._done - before) / max(now - since, 1e-6))
        progress = StageProgress(bytes_done=self._done, bytes_per_second=rate)
        if self._total:
            progress.bytes_total = self._total
            progress.fraction = min(1.0, self._done / self._total)
            if rate > 0:
                progress.eta.FromTimedelta(
                    timedelta(seconds=max(0, self._total - self._done) / rate)
                )
        return progress


@contextlib.asynccontextmanager
async def downloading(lease: Lease) -> AsyncIterator[Meter]:
    """Enter the stage DOWNLOADING, and write its progress into the job while that is the stage.

    Yields the meter that measures it.
    """
    meter = Meter()

    async def report() -> None:
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            await lease.update(progressed(job_pb2.JOB_STAGE_DOWNLOADING, meter.measure))

    await lease.update(entered(job_pb2.JOB_STAGE_DOWNLOADING))
    reporter = asyncio.create_task(report())
    try:
        yield meter
    finally:
        await cancel_and_wait(reporter)
