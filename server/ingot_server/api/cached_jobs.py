"""Cached jobs: what a call returns if everything that it requests is stored already.

    cached-ingest-<media id>[-<media id of a conversion> ...]
    cached-convert-<media id>

A cached job has no record. It follows from its id and from the catalog, and has the times at which
its media item was stored. Calls that get the same media items get the same id. Read again, it has
what the catalog knows: not the labels, options, priority or `max_age` of a request, and the URL of
the media item even if the request had an alias of that.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from ingot.v1 import job_pb2
from ingot.v1.ingest_service_pb2 import IngestResponse
from ingot.v1.job_pb2 import Job
from ingot.v1.media_pb2 import Media
from ingot_server.api.caller import Serialized
from ingot_server.asyncio_tasks import gather_or_cancel
from ingot_server.drafts import conversion_job
from ingot_server.intake import AlreadyStored
from ingot_server.jobs.display_name import name_of_url, shortened
from ingot_server.jobs.lifecycle import created, ingest_kind, with_fraction
from ingot_server.library.catalog import Catalog
from ingot_server.library.manifest_pb2 import Manifest
from ingot_server.library.recipes import is_current

# A request has at most 16 recipes.
_ID: Final = re.compile(r"cached-(?:ingest|(convert))-([a-z2-7]{52}(?:-[a-z2-7]{52}){0,16})")


class CachedJobs:
    """Finds cached jobs. The coroutine raises Failure STORAGE_UNAVAILABLE."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def find(self, job_id: str) -> Job | None:
        """Return the cached job that has this id, which a caller wrote.

        None if it is not the id of a cached job, or if one of its media items is not stored any
        more or was made of another version of its parent.
        """
        match = _ID.fullmatch(job_id)
        if match is None:
            return None
        found = await gather_or_cancel(map(self._catalog.get, match[2].split("-")))
        manifests = tuple(manifest for manifest in found if manifest is not None)
        if len(manifests) < len(found):
            return None
        draft = await self._conversion(manifests) if match[1] else _ingest(manifests)
        return cached_job(AlreadyStored(draft, manifests)) if draft is not None else None

    async def _conversion(self, manifests: Sequence[Manifest]) -> Job | None:
        made = manifests[0].media
        if len(manifests) > 1 or not made.derived_from_media_id:
            return None
        stored = await self._catalog.get(made.derived_from_media_id)
        parent = Media(id=made.derived_from_media_id, url=made.url)
        return conversion_job(stored.media if stored is not None else parent, made.recipe, Job())


class CachedResponse:
    """The serialized IngestResponse of all calls that get the same from the catalog."""

    def __init__(self, stored: AlreadyStored) -> None:
        self._stored = stored
        self.content: Serialized = IngestResponse(job=cached_job(stored)).SerializeToString()

    def is_for(self, stored: AlreadyStored) -> bool:
        """Tell whether this is the response to a call, for which the catalog has `stored`."""
        # A tuple equals another one at once if both have the same objects.
        return (self._stored.draft, *self._stored.manifests) == (stored.draft, *stored.manifests)


def job_of(result: Job | AlreadyStored) -> Job:
    """Return the job of a call: a cached one if its result is stored already."""
    return cached_job(result) if isinstance(result, AlreadyStored) else result


def cached_job(stored: AlreadyStored) -> Job:
    """Return the cached job of a call."""
    job = stored.job
    kind = "convert" if job.kind == job_pb2.JOB_KIND_CONVERT else "ingest"
    job.id = "-".join(("cached", kind, *(each.media.id for each in stored.manifests)))
    job.create_time.CopyFrom(job.media.create_time)
    job.end_time.CopyFrom(job.media.create_time)
    return with_fraction(created(job), Job())


def _ingest(manifests: Sequence[Manifest]) -> Job | None:
    media, *conversions = (manifest.media for manifest in manifests)
    for made in conversions:
        if made.derived_from_media_id != media.id or not is_current(made, media):
            return None
    # The URL of a conversion is that of its parent; its file has an address of its own.
    url = media.blob.url if media.derived_from_media_id else media.url
    recipes = [made.recipe for made in conversions]
    name = shortened(media.title) or name_of_url(url)
    job = Job(kind=ingest_kind(recipes), url=url, display_name=name, recipes=recipes)
    if media.HasField("selection"):
        job.selection.CopyFrom(media.selection)
    return job
