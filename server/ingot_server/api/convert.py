"""The conversions of IngestService: from what is stored, and from what has to be ingested first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from ingot.v1 import job_pb2, reason_pb2
from ingot.v1.ingest_service_pb2 import ConvertRequest, ConvertResponse, IngestRequest
from ingot.v1.job_pb2 import Job
from ingot.v1.media_pb2 import Media
from ingot.v1.recipe_pb2 import Recipe
from ingot_server.api.caller import Caller
from ingot_server.errors import Failure
from ingot_server.library.catalog import Catalog
from ingot_server.library.identity import is_media_id
from ingot_server.library.recipes import (
    canonical_recipe,
    check_applicable,
    derived_media,
    is_current,
)

Request: TypeAlias = IngestRequest | ConvertRequest
"""Either has a URL, a selection, and what else an ingest takes."""


class Converting:
    """What IngestService does about conversions."""

    _catalog: Catalog

    async def _admit(self, job: Job, request: Request) -> Job:
        raise NotImplementedError

    async def _end_cached(self, job: Job, stored: Media, request: Request) -> Job:
        raise NotImplementedError

    async def _ingest(self, request: Request, recipes: Sequence[Recipe]) -> Job:
        raise NotImplementedError

    async def _earlier(self, request: Request) -> Job | None:
        raise NotImplementedError

    async def convert(self, request: ConvertRequest, _: Caller) -> ConvertResponse:
        recipe = canonical_recipe(request.recipe)
        if request.WhichOneof("source") == "url":
            return ConvertResponse(job=await self._ingest(request, [recipe]))
        parent_id = request.media_id
        if request.validate_only:
            parent = Media(id=parent_id)
            return ConvertResponse(job=_job(parent, recipe, request))
        if (earlier := await self._earlier(request)) is not None:
            return ConvertResponse(job=earlier)
        stored = await self._catalog.get(parent_id) if is_media_id(parent_id) else None
        if stored is None:
            raise Failure(
                reason_pb2.REASON_MEDIA_NOT_FOUND,
                f"No media {parent_id} is stored. Ingest it first, or convert its URL.",
            )
        return ConvertResponse(job=await self._convert(stored, recipe, request))

    async def _convert(self, parent: Media, recipe: Recipe, request: ConvertRequest) -> Job:
        """The job for a media that is stored."""
        check_applicable(recipe, parent)
        job = _job(parent, recipe, request)
        stored = await self._catalog.get(job.media.id)
        if stored is not None and is_current(stored, parent):
            return await self._end_cached(job, stored, request)
        return await self._admit(job, request)

    async def _follow_up(
        self, job: Job, stored: Media, recipes: Sequence[Recipe], request: Request
    ) -> Job | None:
        """The job for conversions of what is stored; None when a workflow has to make them."""
        if isinstance(request, ConvertRequest):
            return await self._convert(stored, recipes[0], request)
        for number, recipe in enumerate(recipes):
            check_applicable(recipe, stored, at=f"recipes[{number}]")
        made = [await self._catalog.get(derived_media(stored, recipe).id) for recipe in recipes]
        if all(each is not None and is_current(each, stored) for each in made):
            job.conversions.extend(each for each in made if each is not None)
            return await self._end_cached(job, stored, request)
        return None


def _job(parent: Media, recipe: Recipe, request: ConvertRequest) -> Job:
    return Job(
        kind=job_pb2.JOB_KIND_CONVERT,
        url=parent.url,
        labels=request.labels,
        selection=parent.selection,
        recipes=[recipe],
        media=derived_media(parent, recipe),
    )
