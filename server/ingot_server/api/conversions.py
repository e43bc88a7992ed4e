"""The conversions of IngestService: from what is stored, and from what has to be ingested first."""

from __future__ import annotations

from collections.abc import Sequence

from ingot.v1 import job_pb2, reason_pb2
from ingot.v1.ingest_service_pb2 import ConvertRequest
from ingot.v1.job_pb2 import Job
from ingot.v1.media_pb2 import Media, Selection
from ingot.v1.recipe_pb2 import Recipe
from ingot_server.api.admission import Admission, Request
from ingot_server.errors import Failure
from ingot_server.library.catalog import Catalog
from ingot_server.library.recipes import check_applicable, derived_media, needs_video
from ingot_server.resolve import resolve

_FORMS_OF_SOUND = (Selection(mode=Selection.MODE_AUDIO_ONLY), Selection(mode=Selection.MODE_BEST))


class Converting:
    """What IngestService does about conversions."""

    def __init__(self, catalog: Catalog, admission: Admission) -> None:
        self._catalog = catalog
        self._admission = admission

    async def convert(self, request: ConvertRequest, recipe: Recipe) -> Job:
        """The job for `request.media_id`."""
        parent_id = request.media_id
        if request.validate_only:
            return _job(Media(id=parent_id), recipe, request)
        if (earlier := await self._admission.earlier(request)) is not None:
            return earlier
        _, stored = await self._catalog.find(parent_id)
        if stored is None:
            raise Failure(
                reason_pb2.REASON_MEDIA_NOT_FOUND,
                f"No media {parent_id} is stored. Ingest it first, or convert its URL.",
            )
        return await self._convert(stored, recipe, request)

    async def selection(self, request: ConvertRequest, recipe: Recipe) -> Selection:
        """Which form of the media behind `request.url` is converted.

        Where the caller does not say, and the recipe is one of sound: the form that the recipe was
        made of before, else one that is stored, the sound alone first. Else the sound alone, if the
        source is known to give it by itself.
        """
        asked = request.selection
        named = resolve(request.url, asked)
        # What has but one form is no matter of choice.
        if asked.ByteSize() or needs_video(recipe) or not named.source.has_selections:
            return asked
        unstored = _FORMS_OF_SOUND[0] if named.source.offers_audio_only else asked
        if request.validate_only:
            return unstored
        stored = []
        for selection in _FORMS_OF_SOUND:
            _, media = await self._catalog.find(resolve(request.url, selection).media_id)
            if media is not None:
                if await self._catalog.conversion(media, recipe) is not None:
                    return selection
                stored.append(selection)
        return (*stored, unstored)[0]

    async def follow_up(
        self, job: Job, stored: Media, recipes: Sequence[Recipe], request: Request
    ) -> Job | None:
        """The job for conversions of what is stored; None when a workflow has to make them."""
        if isinstance(request, ConvertRequest):
            return await self._convert(stored, recipes[0], request)
        for number, recipe in enumerate(recipes):
            check_applicable(recipe, stored, at=f"recipes[{number}]")
        made = [await self._catalog.conversion(stored, recipe) for recipe in recipes]
        if None in made:
            return None
        job.conversions.extend(each for each in made if each is not None)
        return await self._admission.end_cached(job, stored, request)

    async def _convert(self, parent: Media, recipe: Recipe, request: ConvertRequest) -> Job:
        """The job for a media that is stored."""
        check_applicable(recipe, parent)
        job = _job(parent, recipe, request)
        if (made := await self._catalog.conversion(parent, recipe)) is not None:
            return await self._admission.end_cached(job, made, request)
        return await self._admission.admit(job, request)


def _job(parent: Media, recipe: Recipe, request: ConvertRequest) -> Job:
    return Job(
        kind=job_pb2.JOB_KIND_CONVERT,
        url=parent.url,
        labels=request.labels,
        selection=parent.selection,
        recipes=[recipe],
        media=derived_media(parent, recipe),
    )
