"""Which job each upload has. `requests.lua` writes the keys, and removes them with the job."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Final, cast

from ingot.v1.job_pb2 import Job
from ingot_server.jobs.transition import Transition
from ingot_server.redis import Redis, unavailable

_UPLOAD: Final = "upload:"


class UploadIndex:
    """The jobs of uploads. Every method raises Failure with CACHE_UNAVAILABLE."""

    def __init__(self, redis: Redis, transition: Transition) -> None:
        self._redis = redis
        self._transition = transition

    async def job(self, upload_id: str) -> Job | None:
        """Return the last job of an upload, however it ended; None if it has no record."""
        key = self._redis.key(_UPLOAD + upload_id)
        with unavailable():
            job_id = await cast("Awaitable[bytes | None]", self._redis.get(key))
        if job_id is None:
            return None
        record = await self._transition.read_record(job_id.decode())
        return record.job if record is not None else None

    async def forget(self, upload_id: str) -> None:
        """Forget the job of an upload, so that the upload can get another one."""
        with unavailable():
            await self._redis.delete(self._redis.key(_UPLOAD + upload_id))
