"""The outages that a task of the journal waits for: those of Redis, and those of the bucket."""

from __future__ import annotations

from ingot.v1 import reason_pb2
from ingot_server.errors import Failure
from ingot_server.outage import Outage


class JournalOutages:
    """What one task has found out about its two servers."""

    def __init__(self, task: str, redis_outage: Outage) -> None:
        self._task = task
        self._redis = redis_outage
        self._bucket = Outage("The journal in the bucket")

    def failed(self, failure: Failure) -> float:
        """Tell that the task has failed. Returns the seconds after which it should try again."""
        is_redis = failure.reason == reason_pb2.REASON_CACHE_UNAVAILABLE
        return (self._redis if is_redis else self._bucket).failed(self._task, failure)

    def succeeded(self) -> None:
        """Tell that the task has used both servers."""
        self._redis.succeeded(self._task)
        self._bucket.succeeded(self._task)
