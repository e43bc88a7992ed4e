"""IngestService: the door that every media comes in by."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from urllib.parse import urlsplit

from google.protobuf.duration_pb2 import Duration

from ingot.v1 import ingest_service_pb2, job_pb2
from ingot.v1.ingest_service_pb2 import (
    CompleteUploadRequest,
    CompleteUploadResponse,
    ConvertRequest,
    ConvertResponse,
    CreateUploadUrlRequest,
    CreateUploadUrlResponse,
    IngestRequest,
    IngestResponse,
    QueryUploadRequest,
    QueryUploadResponse,
    UploadRequest,
    UploadResponse,
)
from ingot.v1.job_pb2 import IngestOptions, Job
from ingot.v1.media_pb2 import Media, Selection
from ingot.v1.recipe_pb2 import Recipe
from ingot_server.api.admission import Admission, Request
from ingot_server.api.caller import Caller, Service
from ingot_server.api.conversions import Converting
from ingot_server.api.internal import check_adoptable, named_media
from ingot_server.api.preflight import Preflight
from ingot_server.api.status import check_labels, invalid
from ingot_server.api.upload_service import Uploading
from ingot_server.config import Settings
from ingot_server.egress.addresses import check_host
from ingot_server.jobs.queue import Queue
from ingot_server.jobs.records import Records
from ingot_server.library.blobs import Blobs
from ingot_server.library.catalog import Catalog
from ingot_server.library.freshness import age
from ingot_server.library.recipes import (
    LONGEST_SECONDS,
    canonical_recipe,
    canonical_recipes,
    derived_media,
)
from ingot_server.library.side_file_requests import lacking
from ingot_server.library.uploads import Uploads
from ingot_server.resolve import ResolvedUrl, may_be_list, resolve


class IngestService(Service):
    """Answers from what is stored, else with the one job that fetches it.

    A race cannot start a second download. Of calls at the same time, `Records.create` lets one make
    a job and gives it to the others. A call that found nothing stored just before another's job
    ended does make a new job; its worker looks into the catalog first, and ends it from there.
    """

    descriptor = ingest_service_pb2.DESCRIPTOR.services_by_name["IngestService"]

    def __init__(
        self,
        catalog: Catalog,
        records: Records,
        queue: Queue,
        blobs: Blobs,
        settings: Settings,
        *,
        existence: Preflight | None = None,
    ) -> None:
        """Without `existence` a job is made for whatever is not stored."""
        self._existence = existence
        self._catalog = catalog
        self._blobs = blobs
        self._settings = settings
        self._admission = Admission(records, queue)
        self._uploading = Uploading(catalog, Uploads(blobs, settings), self._admission, settings)
        self._converting = Converting(catalog, self._admission)

    async def close(self) -> None:
        """Waits for the jobs that are being made, also for callers who hung up."""
        await self._admission.close()

    async def ingest(self, request: IngestRequest, _: Caller) -> IngestResponse:
        recipes = canonical_recipes(request.recipes)
        return IngestResponse(job=await self._ingest(request, request.selection, recipes))

    async def convert(self, request: ConvertRequest, _: Caller) -> ConvertResponse:
        check_labels(request.labels)
        recipe = canonical_recipe(request.recipe)
        if request.WhichOneof("source") == "media_id":
            return ConvertResponse(job=await self._converting.convert(request, recipe))
        selection = await self._converting.selection(request, recipe)
        return ConvertResponse(job=await self._ingest(request, selection, [recipe]))

    async def upload(self, requests: AsyncIterator[UploadRequest], _: Caller) -> UploadResponse:
        return await self._uploading.upload(requests)

    async def query_upload(self, request: QueryUploadRequest, _: Caller) -> QueryUploadResponse:
        return await self._uploading.query_upload(request)

    async def create_upload_url(
        self, request: CreateUploadUrlRequest, _: Caller
    ) -> CreateUploadUrlResponse:
        return await self._uploading.create_upload_url(request)

    async def complete_upload(
        self, request: CompleteUploadRequest, _: Caller
    ) -> CompleteUploadResponse:
        return await self._uploading.complete_upload(request)

    async def _ingest(
        self, request: Request, selection: Selection, recipes: Sequence[Recipe]
    ) -> Job:
        """The job that brings the media in, and has `recipes` made of it."""
        options = _options(request)
        named = named_media(
            resolve(
                request.url,
                selection,
                playlist=options.playlist,
                record_duration=_record_duration(options),
            ),
            self._blobs,
        )
        if named.source.has_public_host:
            check_host(
                urlsplit(named.identity.url).hostname or "",
                allow_loopback=self._settings.egress_allow_loopback,
            )
        job = _job(request, named, recipes)
        if options.playlist and not may_be_list(named, request.url):
            # It is one media for everybody, so one job.
            job.options.playlist = False
        if request.validate_only:
            if isinstance(request, ConvertRequest):
                job.media.CopyFrom(derived_media(job.media, recipes[0]))
            return job
        if (earlier := await self._admission.earlier(request)) is not None:
            return earlier
        named, stored = await self._find(named, request)
        job.media.id = named.media_id
        if stored is not None:
            if not recipes:
                return await self._admission.end_cached(job, stored, request)
            ready = await self._converting.follow_up(job, stored, recipes, request)
            if ready is not None:
                return ready
        elif not named.source.in_bucket:
            await self._refuse_absent(named, request)
        return await self._admission.admit(job, request)

    async def _find(self, named: ResolvedUrl, request: Request) -> tuple[ResolvedUrl, Media | None]:
        """What is named by its better identity, if one was found, and what is stored of it.

        None also when that is older than the caller takes. Raises Failure as `check_adoptable`.
        """
        options = _options(request)
        recorded = named.source.may_be_live and _record_duration(options) is not None
        mutable = named.source.mutable or recorded
        media_id, stored = await self._catalog.find(named.media_id)
        if media_id != named.media_id:
            # An extraction found a better identity: that one is stored, made and waited for.
            named, mutable = named._replace(media_id=media_id), recorded
        if named.source.in_bucket:
            is_fresh = await check_adoptable(named, stored, self._blobs)
        else:
            is_fresh = stored is not None and not (
                (mutable and _older(age(stored), request)) or lacking(stored, options)
            )
        return named, stored if is_fresh else None

    async def _refuse_absent(self, named: ResolvedUrl, request: Request) -> None:
        """Raises the failure that the source lately gave for this media, if the caller takes it.

        Else the one that it gives now, where that is soon known.
        """
        remembered = await self._catalog.remembered_failure(named.media_id)
        if remembered is not None:
            failure, known_for = remembered
            if not _older(known_for, request):
                raise failure
        if self._existence is not None:
            max_age = request.max_age.ToTimedelta() if request.HasField("max_age") else None
            await self._existence.require(named, max_age)


def _job(request: Request, named: ResolvedUrl, recipes: Sequence[Recipe]) -> Job:
    """The job as it is known without network: no id, no state yet."""
    identity = named.identity
    converts = isinstance(request, ConvertRequest)
    job = Job(
        kind=job_pb2.JOB_KIND_CONVERT if converts else job_pb2.JOB_KIND_INGEST,
        recipes=recipes,
        url=identity.url,
        labels=request.labels,
        selection=named.selection,
    )
    if (options := _options(request)).ByteSize():
        job.options.CopyFrom(options)
    job.media.id = named.media_id
    job.media.url = identity.url
    job.media.source.name = identity.source
    job.media.source.key = identity.key
    job.media.source.page_url = identity.page_url
    job.media.selection.CopyFrom(named.selection)
    if options.HasField("record_duration"):
        _check_duration("options.record_duration", options.record_duration)
    if request.HasField("max_age"):
        _check_duration("max_age", request.max_age)
        job.max_age.CopyFrom(request.max_age)
    return job


def _check_duration(field: str, duration: Duration) -> None:
    """Raises Failure INVALID_REQUEST for one that could not be written as JSON."""
    if duration.seconds > LONGEST_SECONDS or not 0 <= duration.nanos < 10**9:
        raise invalid({field: "must be a Duration that its definition allows"})


def _options(request: Request) -> IngestOptions:
    return request.options if isinstance(request, IngestRequest) else IngestOptions()


def _record_duration(options: IngestOptions) -> timedelta | None:
    return options.record_duration.ToTimedelta() if options.HasField("record_duration") else None


def _older(age: timedelta, request: Request) -> bool:
    """Whether something of this age is older than the caller takes."""
    return request.HasField("max_age") and age > request.max_age.ToTimedelta()
