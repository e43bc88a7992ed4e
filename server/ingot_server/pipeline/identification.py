"""The better identity of a media item, which only a request to its source tells.

extracted as its own identity    the URL becomes an alias of it
stored already, or being made    the job ends with that media item, or follows that job
not a list, or not live          the job ingests the media item itself
"""

from __future__ import annotations

from ingot.v1 import reason_pb2
from ingot_server.errors import Failure
from ingot_server.extractor.result import Resolved
from ingot_server.jobs.changes import identified_as
from ingot_server.library.catalog import Catalog
from ingot_server.library.identity import media_id
from ingot_server.pipeline.attempt import Attempt, FollowJob, Retry, Stored
from ingot_server.sources import pick
from ingot_server.sources.source import Identity
from ingot_server.sources.web import extracted


def better_identity(requested: Identity, found: Resolved) -> Identity:
    """Return the identity of what was found at the source that has it.

    That is `requested` if the extractor gives no better one. A source of Ingot's own names the
    media item itself; for all others the extractor does.
    """
    named = extracted(found.extractor, found.identity, found.page_url)
    if named is None or pick(requested.url)[0].has_own_ids:
        return requested
    try:
        source, identity = pick(found.page_url)
    except Failure:
        return named
    return identity if source.has_own_ids else named


async def take_identity(
    catalog: Catalog, attempt: Attempt, identity: Identity
) -> Stored | FollowJob | None:
    """Give the job the identity that was found, and make its URL an alias of it.

    None means that the job goes on with it. A media item that is replaced keeps its identity.
    """
    target = attempt.id_of(identity)
    if target == attempt.job.media.id or attempt.stored is not None:
        return None
    active = ""
    stored = await catalog.if_whole(await catalog.get(target))
    if stored is None:
        moved = attempt.job.media.id != attempt.requested_id
        active = await attempt.lease.adopt(identified_as(identity.media(target)))
        if active and moved:
            # A job that others follow must not follow another: they could form a circle.
            raise Failure(
                reason_pb2.REASON_SOURCE_FAILED,
                "The page names another media item than before. It is extracted again.",
            )
        stored = await catalog.if_whole(await catalog.get(target))
    if target == attempt.requested_id:
        await catalog.remove_alias(attempt.requested_id)
    else:
        await catalog.put_alias(attempt.requested_id, target, source_key=identity.key)
    if stored is not None:
        return Stored(stored.media, cached=True)
    return FollowJob(active) if active else None


async def ingest_as_media(attempt: Attempt, *, is_live: bool = False) -> FollowJob | Retry:
    """Have the job ingest one media item, not a list; as a recording only if it `is_live`."""
    target = (
        attempt.job.media.id
        if attempt.records and is_live
        else media_id(attempt.identity.key, attempt.job.selection)
    )
    change = identified_as(attempt.identity.media(target), playlist=False)
    active = await attempt.lease.adopt(change)
    return FollowJob(active) if active else Retry()
