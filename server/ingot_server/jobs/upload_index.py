"""Which job each upload has. `transition.lua` writes the keys, and removes them with the job."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Final, cast

from redis.asyncio import Redis

from ingot.v1.job_pb2 import Job
from ingot_server.jobs.transition import Transition
from ingot_server.redis import unavailable

_KEY: Final = "ingot:upload:"


class UploadIndex:
    """The jobs of uploads. Every method raises Failure with CACHE_UNAVAILABLE."""

    def __init__(self, redis: Redis, transition: Transition) -> None:
        self._redis = redis
        self._transition = transition

    async def job(self, upload_id: str) -> Job | None:
        """Return the last job of an upload, however it ended; None if it has no record."""
        with unavailable():
            job_id = await cast("Awaitable[bytes | None]", self._redis.get(_KEY + upload_id))
        if job_id is None:
            return None
        record = await self._transition.read_record(job_id.decode())
        return record.job if record is not None else None

    async def forget(self, upload_id: str) -> None:
        """Forget the job of an upload, so that the upload can get another one."""
        with unavailable():
            await self._redis.delete(_KEY + upload_id)
