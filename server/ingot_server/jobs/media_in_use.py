"""The media items that jobs which have not ended make or convert."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Final, cast

from ingot_server.jobs.job_index import UNFINISHED, state_key
from ingot_server.jobs.lifecycle import has_ended
from ingot_server.jobs.records import Records
from ingot_server.redis import Redis, unavailable

_PAGE: Final = 200


async def media_in_use(redis: Redis, records: Records) -> set[str]:
    """Return their ids. Raises Failure with CACHE_UNAVAILABLE."""
    with unavailable():
        keys = [redis.key(state_key(state)) for state in UNFINISHED]
        members = await cast("Awaitable[list[bytes]]", redis.zunion(keys))
    job_ids = [member.decode() for member in members]
    used: set[str] = set()
    for at in range(0, len(job_ids), _PAGE):
        for job in await records.get_many(job_ids[at : at + _PAGE]):
            if job is not None and not has_ended(job):
                used.update((job.media.id, job.media.derived_from_media_id))
    return used - {""}
