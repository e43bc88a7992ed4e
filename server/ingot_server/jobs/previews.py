"""The results of previews: what is behind a URL, for a few minutes.

    ingot:preview:<key>      a serialized ResolveResponse, which lives for resolve_ttl

The key is the media id of what was asked for, with `:list` if a list was, and for a subscription
with the number of its entries. A result says nothing about what is stored, because that changes.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final, cast

from ingot.v1.ingest_service_pb2 import ResolveResponse
from ingot.v1.job_pb2 import Job
from ingot_server.config import Settings
from ingot_server.jobs.lifecycle import is_listing
from ingot_server.redis import Redis, unavailable

_PREVIEW: Final = "preview:"
# Those who wait for the job of a preview must find its result when the job has ended.
_SHORTEST: Final = timedelta(seconds=10)


class Previews:
    """The results in one Redis. Every method raises Failure CACHE_UNAVAILABLE."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._lifetime = max(settings.resolve_ttl, _SHORTEST)

    async def get(self, job: Job) -> ResolveResponse | None:
        """Return the result of a preview that asks what `job` asks; None if there is none."""
        with unavailable():
            content = await self._redis.get(self._redis.key(_PREVIEW + preview_key(job)))
        return ResolveResponse.FromString(cast("bytes", content)) if content is not None else None

    async def put(self, job: Job, found: ResolveResponse) -> None:
        """Store the result of the preview `job`."""
        key = self._redis.key(_PREVIEW + preview_key(job))
        with unavailable():
            await self._redis.set(key, found.SerializeToString(), px=self._lifetime)


def preview_key(job: Job) -> str:
    """Return what is equal for all previews that ask the same."""
    if is_listing(job):
        return f"{job.media.id}:list:{job.options.max_entries}"
    return job.media.id + (":list" if job.options.playlist else "")
