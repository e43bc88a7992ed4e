"""Which jobs are watched, as all processes know it: it decides how often their progress is written.

    a watcher --> WatchedJobs of its process --> ingot:watched --> WatchedJobs of a worker --> Lease

A process sends the ids of the jobs that it has watchers of when the first one comes, and again
every few seconds. If a message is lost, progress is rough for as long, and nothing else depends on
it.

Channel
  ingot:watched    ids of jobs, each separated by a space from the next, or ANY_JOB
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from redis import exceptions

from ingot.v1.job_pb2 import Job
from ingot_server.redis import Redis

ANY_JOB: Final = "*"
"""What watchers of lists watch."""

# Between two writes of the progress of a job that is watched, of one that a list may show, and of
# any other one. Those who poll are watchers from their second call on.
WATCHED_SECONDS: Final = 0.2
LISTED_SECONDS: Final = 1.0
UNWATCHED_SECONDS: Final = 5.0

# Most jobs end sooner than the first message about them is worth sending.
_FIRST_MESSAGE_SECONDS: Final = 0.2
_MESSAGE_SECONDS: Final = 5.0
# So that one lost message has no effect.
_RECEIVED_SECONDS: Final = 2.4 * _MESSAGE_SECONDS
_LOOK_SECONDS: Final = 10.0
_IDS_PER_MESSAGE: Final = 1000
_SENDING: Final = "watched jobs"


class WatchedJobs:
    """The watched jobs, of this process and of others. Belongs to one event loop."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self.channel = redis.channel("watched")
        self._watchers: Counter[str] = Counter()
        # Until when a job that somebody has read counts as watched.
        self._looked_at: dict[str, float] = {}
        self._unsent: set[str] = set()
        self._has_unsent = asyncio.Event()
        # What was received, and until when it counts.
        self._received: dict[str, float] = {}

    @contextlib.contextmanager
    def watching(self, job_id: str) -> Iterator[None]:
        """Count a watcher of a job, or of ANY_JOB, in this process."""
        self._add(job_id)
        self._watchers[job_id] += 1
        try:
            yield
        finally:
            self._watchers[job_id] -= 1
            if not self._watchers[job_id]:
                del self._watchers[job_id]

    def look_at(self, job_id: str) -> None:
        """Count somebody who has read a job, or jobs, and may do so again in some seconds."""
        self._add(job_id)
        self._looked_at[job_id] = _now() + _LOOK_SECONDS

    def progress_seconds(self, job: Job) -> float:
        """Return how many seconds should lie between two writes of the progress of a job."""
        if self._is_watched(job.id) or self._is_watched(job.parent_job_id):
            return WATCHED_SECONDS
        # The lists and workflows that have a job as a part show its progress as their own.
        if self._is_watched(ANY_JOB) or job.parent_job_id:
            return LISTED_SECONDS
        return UNWATCHED_SECONDS

    def receive(self, message: bytes) -> None:
        """Take note of what another process, or this one, has sent."""
        now = _now()
        self._received = {each: until for each, until in self._received.items() if until > now}
        self._received |= dict.fromkeys(message.decode().split(), now + _RECEIVED_SECONDS)

    async def keep_sending(self) -> None:
        """Tell all processes what is watched here, for as long as it is. Never returns."""
        send_all_at = _now()
        while True:
            if await self._unsent_by(send_all_at if self._watchers or self._looked_at else None):
                await asyncio.sleep(_FIRST_MESSAGE_SECONDS)
            watched = self._watched_here()
            if _now() >= send_all_at:
                sent = watched
                send_all_at = _now() + _MESSAGE_SECONDS
            else:
                sent = watched & self._unsent
            self._unsent.clear()
            self._has_unsent.clear()
            ids = sorted(sent)
            for begin in range(0, len(ids), _IDS_PER_MESSAGE):
                await self._send(ids[begin : begin + _IDS_PER_MESSAGE])

    def _add(self, job_id: str) -> None:
        if job_id not in self._watchers and job_id not in self._looked_at:
            self._unsent.add(job_id)
            self._has_unsent.set()

    def _watched_here(self) -> set[str]:
        now = _now()
        self._looked_at = {each: until for each, until in self._looked_at.items() if until > now}
        return self._watchers.keys() | self._looked_at.keys()

    def _is_watched(self, job_id: str) -> bool:
        return self._received.get(job_id, 0.0) > _now()

    async def _unsent_by(self, when: float | None) -> bool:
        """Wait until there is something unsent and return True, or return False at a time."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(when):
                return await self._has_unsent.wait()
        return False

    async def _send(self, ids: Sequence[str]) -> None:
        try:
            await self._redis.publish(self.channel, " ".join(ids))
        except (exceptions.RedisError, OSError) as error:
            await asyncio.sleep(self._redis.outage.failed(_SENDING, error))
        else:
            self._redis.outage.succeeded(_SENDING)


def _now() -> float:
    return asyncio.get_running_loop().time()
