"""The decision about a URL: its media item is stored, it is refused, or a job is needed.

    URL -> resolve -> draft job -> decide -> AlreadyStored | Refused | Needed

A draft job holds what a caller requested: kind, selection, options, recipes, `max_age`, labels. The
API decides about requests this way, lists about their entries, and workflows about their ingest. An
attempt, which knows its media item already, uses `missing_of` alone. So each of these questions is
answered here and nowhere else: is the stored copy good enough, which side files are missing, are
all conversions made, did the source refuse this lately.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias

from ingot.v1 import reason_pb2
from ingot.v1.job_pb2 import IngestOptions, Job
from ingot.v1.media_pb2 import Media, Selection
from ingot.v1.recipe_pb2 import Recipe
from ingot_server.config import Settings
from ingot_server.drafts import conversion_job, with_content
from ingot_server.egress.destinations import Destinations
from ingot_server.errors import Failure
from ingot_server.jobs.changes import failed, succeeded
from ingot_server.jobs.lifecycle import copy_of
from ingot_server.library.blobs import Blobs
from ingot_server.library.catalog import Catalog
from ingot_server.library.manifest_pb2 import Manifest
from ingot_server.library.recipes import needs_video
from ingot_server.library.tenants import belongs_to_tenant
from ingot_server.library.transcript_origin import check_makeable, require_endpoint
from ingot_server.library.uploads import Uploads, UploadStatus
from ingot_server.resolve import (
    ResolvedUrl,
    is_media_file,
    record_duration,
    resolve,
    resolve_internal,
)
from ingot_server.sources.internal import parse
from ingot_server.sources.upload import upload_id_of

_AUDIO_SELECTIONS: Final = (
    Selection(mode=Selection.MODE_AUDIO_ONLY),
    Selection(mode=Selection.MODE_BEST),
)
# Entries of Manifest.requested_side_files, next to the tags of languages.
_THUMBNAIL: Final = "thumbnail"
_ALL_SUBTITLES: Final = "subtitles"
_INFO: Final = "info"
_STORYBOARD: Final = "storyboard"
_AUTOMATIC: Final = " automatic"


class Missing(enum.Enum):
    """What has to be done before a job's media item is as its caller wants it."""

    NOTHING = "nothing"
    EVERYTHING = "everything"
    """Nothing is stored, or the stored copy is too old."""
    SIDE_FILES = "side files"
    """The stored file is good, but its source was not asked for some of the side files."""
    CONVERSIONS = "conversions"
    """The media item is stored, but not all that its recipes make of it."""


@dataclass(frozen=True, slots=True)
class AlreadyStored:
    """Everything that was requested is stored."""

    draft: Job
    """What was requested; do not change it."""
    manifests: tuple[Manifest, ...]
    """Those of the media item and of the conversions, in the order of the recipes."""

    @property
    def job(self) -> Job:
        """A new job that has succeeded with what is stored."""
        media, *conversions = (manifest.media for manifest in self.manifests)
        job = copy_of(self.draft)
        succeeded(media, *conversions, cached=True)(job)
        return job


@dataclass(frozen=True, slots=True)
class Refused:
    """The request cannot be fulfilled, and it is already known why. `job` has failed with it."""

    job: Job
    failure: Failure


@dataclass(frozen=True, slots=True)
class Needed:
    """A job has to run. `job` has no id and no state yet."""

    job: Job
    missing: Missing
    stored: Manifest | None
    """The manifest of the media item that lacks something; None if nothing is stored."""
    unstored_since: float | None = None
    """The loop's time just before the bucket was found to have no manifest; None if it has one."""


Decision: TypeAlias = AlreadyStored | Refused | Needed


class Intake:
    """Makes the decisions. It only reads, except that the catalog fills its caches.

    Every coroutine raises Failure with STORAGE_UNAVAILABLE if the bucket does not respond.
    """

    def __init__(self, catalog: Catalog, blobs: Blobs, settings: Settings) -> None:
        self._catalog = catalog
        self._blobs = blobs
        self._settings = settings
        self._uploads = Uploads(blobs, settings)
        self._destinations = Destinations(settings)

    def resolve(self, url: str, selection: Selection, options: IngestOptions) -> ResolvedUrl:
        """Return what `url` names in this installation. No I/O.

        Raises Failure: INVALID_REQUEST, UNSUPPORTED_URL, BUCKET_FORBIDDEN.
        """
        resolved_url = resolve(
            url,
            selection,
            playlist=options.playlist,
            record_duration=record_duration(options),
        )
        return resolve_internal(resolved_url, self._blobs)

    def check_settings(self, recipes: Iterable[Recipe]) -> None:
        """Raise Failure TRANSCRIPTION_NOT_CONFIGURED if one needs an endpoint that is not set."""
        for recipe in recipes:
            if recipe.transcript.origin == Recipe.Transcript.ORIGIN_SOUND:
                require_endpoint(recipe, self._settings)

    def check_destination(self, resolved_url: ResolvedUrl) -> None:
        """Raise Failure ADDRESS_FORBIDDEN if the URL's host and port are forbidden as written."""
        if resolved_url.source.has_public_host:
            self._destinations.check_url(resolved_url.identity.url)

    async def choose_selection(
        self, url: str, selection: Selection, recipe: Recipe, *, stored: bool = True
    ) -> Selection:
        """Return the selection of the media item behind `url` that `recipe` is applied to.

        That is `selection` if the caller made one, or if the recipe needs video. For a recipe that
        needs only audio it is the selection that was converted before; else one that is stored,
        audio alone first; else audio alone if the source offers that. Without `stored`, no I/O: as
        if nothing were stored.
        """
        source = resolve(url, selection).source
        if selection.ByteSize() or needs_video(recipe) or not source.has_selections:
            return selection
        choice = _AUDIO_SELECTIONS[0] if source.offers_audio_only else selection
        if not stored:
            return choice
        found = []
        for each in _AUDIO_SELECTIONS:
            _, manifest = await self._catalog.find(resolve(url, each).media_id)
            if manifest is not None:
                if await self._catalog.conversion(manifest.media, recipe) is not None:
                    return each
                found.append(each)
        return (*found, choice)[0]

    async def decide(
        self,
        resolved_url: ResolvedUrl,
        draft: Job,
        *,
        converts: bool = False,
        is_entry: bool = False,
    ) -> Decision:
        """Decide about the `identified` draft of a job, which is not changed.

        With `converts`, only the result of its one recipe is wanted: the draft becomes that
        conversion if its media item is stored. If a better identity is known, the job of the result
        has that one. An entry of a list is not refused because one of its recipes cannot be
        applied: the others are still made.
        """
        source = resolved_url.source
        upload = await self._complete_upload(resolved_url.identity.url)
        if upload is not None and upload.sha256:
            draft = with_content(draft, upload.sha256)
            resolved_url = replace(resolved_url, media_id=draft.media.id)
        began = asyncio.get_running_loop().time()
        media_id, found_manifest = await self._catalog.find(resolved_url.media_id)
        unstored_since = began if found_manifest is None else None
        if found_manifest is not None and not belongs_to_tenant(found_manifest.media):
            found_manifest = None
        stored = await self._catalog.if_whole(found_manifest)
        if upload is not None:
            found: Missing | Failure = _missing_if(stored is None)
        elif source.in_bucket:
            found = await self._check_object(resolved_url, stored)
        else:
            is_alias = media_id != resolved_url.media_id
            mutable = resolved_url.record_duration is not None or (source.mutable and not is_alias)
            found = await self._check_source(draft, media_id, stored, mutable=mutable)
        if isinstance(found, Failure):
            return refused(draft, found, media_id)
        if found is not Missing.NOTHING or stored is None:
            return Needed(_about(media_id, draft), found, stored, unstored_since)
        if converts:
            return await self.decide_conversion(stored.media, draft.recipes[0], draft)
        return await self._decide_recipes(draft, stored, is_entry=is_entry)

    async def decide_conversion(self, parent: Media, recipe: Recipe, requested: Job) -> Decision:
        """Decide about one conversion of a stored media item.

        The labels, the priority and the list title of the job are those of `requested`.
        """
        job = conversion_job(parent, recipe, requested)
        made = await self._catalog.conversion(parent, recipe)
        if made is not None:
            return AlreadyStored(job, (made,))
        try:
            check_makeable(recipe, parent, self._settings)
        except Failure as failure:
            return refused(job, failure)
        return Needed(job, Missing.CONVERSIONS, None)

    async def _decide_recipes(self, draft: Job, stored: Manifest, *, is_entry: bool) -> Decision:
        manifests = [stored]
        for number, recipe in enumerate(draft.recipes):
            made = await self._catalog.conversion(stored.media, recipe)
            if made is not None:
                manifests.append(made)
            elif not is_entry:
                try:
                    check_makeable(recipe, stored.media, self._settings, at=f"recipes[{number}]")
                except Failure as failure:
                    return refused(draft, failure, stored.media.id)
        if len(manifests) <= len(draft.recipes):
            return Needed(_about(stored.media.id, draft), Missing.CONVERSIONS, stored)
        return AlreadyStored(draft, tuple(manifests))

    async def _check_source(
        self, draft: Job, media_id: str, stored: Manifest | None, *, mutable: bool
    ) -> Missing | Failure:
        """Return what the source has to be asked for, or the failure that it gave lately.

        A failure that is older than `max_age` does not count.
        """
        missing = missing_of(draft, stored, mutable=mutable)
        if missing is not Missing.NOTHING:
            remembered = await self._catalog.remembered_failure(media_id)
            if remembered is not None:
                failure, known_for = remembered
                if not _is_too_old(known_for, draft):
                    return failure
        return missing

    async def _complete_upload(self, url: str) -> UploadStatus | None:
        """Return the upload that `url` names, if all of its bytes are in the bucket."""
        upload_id = upload_id_of(url)
        status = await self._uploads.status(upload_id) if upload_id else None
        return status if status is not None and status.complete else None

    async def _check_object(
        self, resolved_url: ResolvedUrl, stored: Manifest | None
    ) -> Missing | Failure:
        """Return whether the object of an internal URL, or of an `upload:` one, must be adopted.

        A failure means that there is no object.
        """
        url = resolved_url.identity.url
        address = parse(url)
        place = address and self._blobs.find(*address)
        if address is None or place is None or is_media_file(place, self._blobs):
            if stored is not None:
                return Missing.NOTHING
            return nothing_to_store(url)
        bucket, key = place
        found = await bucket.stat(key)
        if found is None:
            return Failure(
                reason_pb2.REASON_MEDIA_DOES_NOT_EXIST,
                f"The bucket {address.bucket} has no object {address.key}. Put it there first.",
            )
        return _missing_if(stored is None or not is_made_of(stored, found.etag))


def nothing_to_store(url: str) -> Failure:
    """Return the failure of a URL that names neither stored media nor bytes to make media of."""
    return Failure(
        reason_pb2.REASON_MEDIA_NOT_FOUND,
        f"No media item is stored for {url}, and there is no object to make one of. Upload the "
        "file instead.",
    )


def refused(draft: Job, failure: Failure, media_id: str = "") -> Refused:
    """Return the decision that `failure` is the result, with the job that has failed.

    With `media_id` the job is about that media item.
    """
    job = copy_of(_about(media_id or draft.media.id, draft))
    failed(failure)(job)
    return Refused(job, failure)


def _about(media_id: str, draft: Job) -> Job:
    """Return the draft with the media id that it turned out to be about."""
    if draft.media.id == media_id:
        return draft
    job = copy_of(draft)
    job.media.id = media_id
    return job


def missing_of(job: Job, stored: Manifest | None, *, mutable: bool) -> Missing:
    """Return what `stored` lacks of what `job` asks for, its recipes aside.

    `mutable`: the content may have changed at its source, so that `max_age` counts.
    """
    if stored is None or (mutable and job.HasField("max_age") and _is_too_old(_age(stored), job)):
        return Missing.EVERYTHING
    if job.HasField("options") and missing_side_files(stored, job.options) is not None:
        return Missing.SIDE_FILES
    return Missing.NOTHING


def missing_side_files(stored: Manifest, options: IngestOptions) -> IngestOptions | None:
    """Return those side files of `options` that the source was not asked for yet, or None.

    None also if the media item was not extracted: such a source has no side files.
    """
    if not requested_side_files(options) or not stored.media.HasField("extraction"):
        return None
    known = set(stored.requested_side_files)
    all_subtitles = _ALL_SUBTITLES + (_AUTOMATIC if options.automatic_subtitles else "")
    left = IngestOptions(
        automatic_subtitles=options.automatic_subtitles,
        thumbnail=options.thumbnail and _THUMBNAIL not in known,
        all_subtitles=options.all_subtitles and all_subtitles not in known,
        info=options.info and _INFO not in known,
        storyboard=options.storyboard and _STORYBOARD not in known,
    )
    for language in options.subtitle_languages:
        names = {language.lower() + _AUTOMATIC}
        if not options.automatic_subtitles:
            names.add(language.lower())
        if not names & known:
            left.subtitle_languages.append(language)
    return left if requested_side_files(left) else None


def is_thumbnail_requested(stored: Manifest) -> bool:
    """Return whether the source was asked for a thumbnail, or has no side files."""
    return missing_side_files(stored, IngestOptions(thumbnail=True)) is None


def requested_side_files(options: IngestOptions) -> list[str]:
    """Return the side files of `options`, sorted, as the manifest records them."""
    suffix = _AUTOMATIC if options.automatic_subtitles else ""
    languages = {language.lower() + suffix for language in options.subtitle_languages}
    others = {
        _THUMBNAIL: options.thumbnail,
        _ALL_SUBTITLES + suffix: options.all_subtitles,
        _INFO: options.info,
        _STORYBOARD: options.storyboard,
    }
    return sorted(languages | {name for name, wanted in others.items() if wanted})


def entity_tag(etag: str) -> str:
    """Return an object's ETag as the manifest records it, with quotes."""
    return f'"{etag}"'


def is_made_of(stored: Manifest, etag: str) -> bool:
    """Return whether `stored` was adopted from the object version that has this ETag."""
    return stored.source_version.http_etag == entity_tag(etag)


def _age(stored: Manifest) -> timedelta:
    """Return the time since the source last confirmed the content, or since it was stored."""
    confirmed = (
        stored.source_version.confirm_time
        if stored.source_version.HasField("confirm_time")
        else stored.media.create_time
    )
    return datetime.now(UTC) - confirmed.ToDatetime(UTC)


def _missing_if(absent: bool) -> Missing:
    return Missing.EVERYTHING if absent else Missing.NOTHING


def _is_too_old(age: timedelta, job: Job) -> bool:
    return job.HasField("max_age") and age > job.max_age.ToTimedelta()
