"""IngestService: ingests, conversions and uploads."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

from google.rpc.status_pb2 import Status

from ingot.v1 import ingest_service_pb2
from ingot.v1.ingest_service_pb2 import (
    BatchIngestRequest,
    BatchIngestResponse,
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
    ResolveRequest,
    ResolveResponse,
    UploadRequest,
    UploadResponse,
)
from ingot.v1.job_pb2 import Job
from ingot.v1.media_pb2 import Media
from ingot.v1.recipe_pb2 import Recipe
from ingot.v1.scope_pb2 import Scope
from ingot.v1.subscription_pb2 import Subscription
from ingot_server.api.admission import Admission
from ingot_server.api.batch import run_batch, shortened
from ingot_server.api.cached_jobs import job_of
from ingot_server.api.caller import CALLER, Caller, Serialized, Service
from ingot_server.api.named_media import check_own_upload, find_named
from ingot_server.api.preflight import Preflight
from ingot_server.api.request_draft import Drafts, RequestDraft, draft_job
from ingot_server.api.resolver import Resolver, no_list
from ingot_server.api.subscription_requests import entry_request
from ingot_server.api.upload_service import UploadMethods
from ingot_server.api.webhook_requests import check_webhook
from ingot_server.config import Settings
from ingot_server.drafts import conversion_job, wanting_result
from ingot_server.intake import AlreadyStored, Intake, Missing, Needed, Refused
from ingot_server.jobs.feed import Feed
from ingot_server.jobs.lifecycle import copy_of
from ingot_server.jobs.previews import Previews
from ingot_server.jobs.queue import Queue
from ingot_server.jobs.records import Records
from ingot_server.journal.writer import JournalWriter
from ingot_server.library.blobs import Blobs
from ingot_server.library.catalog import Catalog
from ingot_server.library.recipes import canonical_recipe
from ingot_server.library.uploads import Uploads
from ingot_server.resolve import ResolvedUrl


class IngestService(Service):
    """Returns what is stored, or the one job that stores it.

    A race cannot start a second download. Of calls at the same time, `Records.create` lets one
    create a job and gives it to the others. A call that found nothing stored just before another
    job ended does create a second job; `create` tells its worker that the catalog must be checked
    first, and the worker ends it from there.
    """

    descriptor = ingest_service_pb2.DESCRIPTOR.services_by_name["IngestService"]

    def __init__(
        self,
        catalog: Catalog,
        records: Records,
        queue: Queue,
        blobs: Blobs,
        feed: Feed,
        previews: Previews,
        journal: JournalWriter,
        settings: Settings,
        *,
        preflight: Preflight | None = None,
    ) -> None:
        """Without `preflight`, a job is created for everything that is not stored."""
        self._preflight = preflight
        self._settings = settings
        self._catalog = catalog
        self._blobs = blobs
        self._intake = Intake(catalog, blobs, settings)
        self._drafts = Drafts(self._intake)
        self._admission = Admission(records, queue, journal)
        self._resolver = Resolver(
            self._intake, catalog, previews, self._admission, feed, preflight, settings
        )
        self._uploads = UploadMethods(
            catalog,
            Uploads(blobs, settings),
            self._intake,
            self._admission,
            records.open_links,
            records.daily_bytes,
            records.stored_bytes,
            settings,
        )

    async def close(self) -> None:
        """Wait for the jobs that are being created, also for callers that hung up."""
        await self._admission.close()

    async def ingest(self, request: IngestRequest, caller: Caller) -> IngestResponse | Serialized:
        if request.recipes:
            caller.require(Scope.SCOPE_CONVERT)
        check_webhook(request, self._settings)
        draft = self._drafts.of_ingest(request)
        result = await self._ingest(request, draft)
        return IngestResponse(job=result) if isinstance(result, Job) else draft.respond(result)

    async def batch_ingest(
        self, request: BatchIngestRequest, caller: Caller
    ) -> BatchIngestResponse:
        async def ingest(each: IngestRequest) -> Job:
            response = await self.ingest(each, caller)
            if isinstance(response, bytes):
                response = IngestResponse.FromString(response)
            return response.job

        results = shortened(await run_batch(request.requests, ingest))
        return BatchIngestResponse(
            results=[
                BatchIngestResponse.Result(error=result)
                if isinstance(result, Status)
                else BatchIngestResponse.Result(job=result)
                for result in results
            ]
        )

    async def convert(self, request: ConvertRequest, caller: Caller) -> ConvertResponse:
        if request.url:
            caller.require(Scope.SCOPE_INGEST)
        check_webhook(request, self._settings)
        recipe = canonical_recipe(request.recipe)
        if request.media_id:
            result = await self._convert_stored(request, recipe)
        else:
            selection = await self._intake.choose_selection(
                request.url, request.selection, recipe, stored=not request.validate_only
            )
            draft = self._drafts.of(request, selection, [recipe])
            result = await self._ingest(request, draft)
        return ConvertResponse(job=job_of(result))

    async def list_entries(self, url: str, max_entries: int) -> ResolveResponse:
        """Return the first entries of a list, for a subscription. Raises as `Resolver` does."""
        return await self._resolver.list_entries(url, max_entries)

    async def ingest_entry(
        self, request: IngestRequest, subscription_id: str, list_title: str
    ) -> Job:
        """Return the job of a new entry of a subscription, also if it has failed at once.

        `request` must have a `request_id`, so that the job says what became of the entry. Raises
        Failure if its URL names nothing that can be ingested, or if no job can be made now.
        """
        draft = self._drafts.of_ingest(request)
        if (earlier := await self._admission.earlier(request)) is not None:
            return earlier
        job = copy_of(draft.job)
        job.subscription_id, job.list_title = subscription_id, list_title
        decision = await self._intake.decide(draft.resolved_url, job, is_entry=True)
        if isinstance(decision, Refused):
            return await self._admission.record(decision.job, request)
        return job_of(await self._admission.carry_out(decision, request))

    def check_subscription(self, subscription: Subscription) -> None:
        """Raise Failure if jobs of a subscription would be refused, whatever their entries are.

        No I/O. INVALID_REQUEST if its URL can name no list; else as in an Ingest call.
        """
        request = entry_request(subscription, subscription.url)
        check_webhook(request, self._settings)
        request.options.playlist = True
        draft = self._drafts.of_ingest(request)
        if draft.resolved_url.source.in_bucket or not draft.job.options.playlist:
            raise no_list()

    async def resolve(self, request: ResolveRequest, _: Caller) -> ResolveResponse:
        return await self._resolver.resolve(request)

    async def upload(self, requests: AsyncIterator[UploadRequest], _: Caller) -> UploadResponse:
        return await self._uploads.upload(requests)

    async def query_upload(self, request: QueryUploadRequest, _: Caller) -> QueryUploadResponse:
        return await self._uploads.query_upload(request)

    async def create_upload_url(
        self, request: CreateUploadUrlRequest, _: Caller
    ) -> CreateUploadUrlResponse:
        return await self._uploads.create_upload_url(request)

    async def complete_upload(
        self, request: CompleteUploadRequest, _: Caller
    ) -> CompleteUploadResponse:
        return await self._uploads.complete_upload(request)

    async def _ingest(
        self, request: IngestRequest | ConvertRequest, draft: RequestDraft
    ) -> Job | AlreadyStored:
        """Return the job that ingests the URL and applies the recipes to the media item.

        As in `Admission.carry_out`, what is stored already may not need one.
        """
        job, resolved_url = draft.job, draft.resolved_url
        check_own_upload(resolved_url.identity.url)
        converts = isinstance(request, ConvertRequest)
        if request.validate_only:
            return wanting_result(job) if converts else job
        if (earlier := await self._admission.earlier(request)) is not None:
            return earlier
        decision = await self._intake.decide(resolved_url, job, converts=converts)
        if isinstance(decision, Needed) and decision.missing is not Missing.CONVERSIONS:
            await self._require_existence(resolved_url, decision.job)
            if converts:
                decision = replace(decision, job=wanting_result(decision.job))
        return await self._admission.carry_out(decision, request)

    async def _convert_stored(self, request: ConvertRequest, recipe: Recipe) -> Job | AlreadyStored:
        """Return the job that converts the stored media item `request.media_id`."""
        requested = draft_job(request, [recipe])
        if request.validate_only:
            return conversion_job(Media(id=request.media_id), recipe, requested)
        if (earlier := await self._admission.earlier(request)) is not None:
            return earlier
        stored = (await find_named(request, self._catalog, self._blobs)).media
        # What an administrator makes of a tenant's media is the tenant's.
        requested.requested_by = stored.owner if CALLER.get().tenant else ""
        return await self._admission.carry_out(
            await self._intake.decide_conversion(stored, recipe, requested), request
        )

    async def _require_existence(self, resolved_url: ResolvedUrl, job: Job) -> None:
        """Raise Failure MEDIA_DOES_NOT_EXIST if the source says so in a small request."""
        if self._preflight is not None:
            max_age = job.max_age.ToTimedelta() if job.HasField("max_age") else None
            await self._preflight.require(replace(resolved_url, media_id=job.media.id), max_age)
