"""How far a stage is: counts bytes, and tells rate and time left from the last few seconds."""

from __future__ import annotations

import time
from collections import deque
from datetime import timedelta
from typing import Final

from ingot.v1.job_pb2 import JobProgress

WINDOW_SECONDS: Final = 5.0


class Meter:
    """Measures one stage; `advance` may be called as often as bytes arrive."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])
        self._done = 0
        self._total: int | None = None

    def advance(self, done: int, total: int | None) -> None:
        """Notes that `done` bytes are there of `total`, which is None when nobody knows it."""
        self._done, self._total = done, total

    def measure(self) -> JobProgress:
        """The progress as of now, its rate over the last five seconds."""
        now = time.monotonic()
        self._samples.append((now, self._done))
        while now - self._samples[0][0] > WINDOW_SECONDS and len(self._samples) > 2:
            self._samples.popleft()
        since, before = self._samples[0]
        # A download that began again has fewer bytes than a moment ago: its rate is not negative.
        rate = max(0.0, (self._done - before) / max(now - since, 1e-6))
        progress = JobProgress(bytes_done=self._done, bytes_per_second=rate)
        if self._total:
            progress.bytes_total = self._total
            progress.fraction = min(1.0, self._done / self._total)
            if rate > 0:
                progress.eta.FromTimedelta(
                    timedelta(seconds=max(0, self._total - self._done) / rate)
                )
        return progress
