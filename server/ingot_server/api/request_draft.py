"""What a request asks for, before anything is looked up: the draft of its job, and its media item.

It follows from the request and the settings alone, so calls with equal requests share it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from google.protobuf.duration_pb2 import Duration

from ingot.v1 import job_pb2
from ingot.v1.ingest_service_pb2 import ConvertRequest, IngestRequest
from ingot.v1.job_pb2 import IngestOptions, Job
from ingot.v1.media_pb2 import Selection
from ingot.v1.recipe_pb2 import Recipe
from ingot_server.api.cached_jobs import CachedResponse
from ingot_server.api.caller import Serialized
from ingot_server.api.status import invalid
from ingot_server.drafts import identified
from ingot_server.intake import AlreadyStored, Intake
from ingot_server.jobs.lifecycle import ingest_kind
from ingot_server.library.identity import selects_section
from ingot_server.library.recipes import LONGEST_SECONDS, canonical_recipes
from ingot_server.library.tenants import TENANT
from ingot_server.resolve import ResolvedUrl, may_be_list

# Drafts are kept for requests up to this size, and their responses up to this size: 32 MiB at most.
_DRAFTS: Final = 2048
_REQUEST_BYTES: Final = 512
_RESPONSE_BYTES: Final = 16 << 10


class RequestDraft:
    """The `identified` draft of a request's job, and its URL. Calls share it: do not change it."""

    __slots__ = ("_response", "job", "resolved_url")

    def __init__(self, job: Job, resolved_url: ResolvedUrl) -> None:
        self.job = job
        self.resolved_url = resolved_url
        self._response: CachedResponse | None = None

    def respond(self, stored: AlreadyStored) -> Serialized:
        """Return the IngestResponse of a call that the catalog answers."""
        response = self._response
        if response is None or not response.is_for(stored):
            response = CachedResponse(stored)
            self._response = response if len(response.content) <= _RESPONSE_BYTES else None
        return response.content


class Drafts:
    """Drafts the jobs of requests. Those of the last Ingest requests are kept."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._cached = lru_cache(_DRAFTS)(self._of_ingest)

    def of_ingest(self, request: IngestRequest) -> RequestDraft:
        """Return the draft of an Ingest request. No I/O.

        Raises Failure: INVALID_REQUEST, UNSUPPORTED_URL, BUCKET_FORBIDDEN, ADDRESS_FORBIDDEN,
        TRANSCRIPTION_NOT_CONFIGURED.
        """
        data = request.SerializeToString(deterministic=True)
        # A request with a request_id does not come again, unless it was interrupted.
        if request.request_id or len(data) > _REQUEST_BYTES:
            return self._of_ingest(data, TENANT.get())
        return self._cached(data, TENANT.get())

    def of(
        self,
        request: IngestRequest | ConvertRequest,
        selection: Selection,
        recipes: Sequence[Recipe],
    ) -> RequestDraft:
        """Return the draft of a request that has a URL. Raises Failure as `of_ingest` does."""
        job = draft_job(request, recipes)
        resolved_url = self._intake.resolve(request.url, selection, job.options)
        _check_section(resolved_url, job.options)
        self._intake.check_destination(resolved_url)
        self._intake.check_settings(recipes)
        if job.options.playlist and not may_be_list(resolved_url, request.url):
            # A single media item, so it shares its job with those who ask for it as such.
            job.options.playlist = False
        return RequestDraft(identified(job, resolved_url), resolved_url)

    def _of_ingest(self, data: Serialized, _tenant: str) -> RequestDraft:
        """Draft a request of the tenant whose call runs; the cache distinguishes them by it."""
        request = IngestRequest.FromString(data)
        return self.of(request, request.selection, canonical_recipes(request.recipes))


def draft_job(request: IngestRequest | ConvertRequest, recipes: Sequence[Recipe]) -> Job:
    """Return what a request asks for as a job. Raises Failure INVALID_REQUEST."""
    options = IngestOptions() if isinstance(request, ConvertRequest) else request.options
    job = Job(
        kind=ingest_kind(recipes),
        priority=request.priority or job_pb2.JOB_PRIORITY_NORMAL,
        recipes=recipes,
        labels=request.labels,
        options=options if options.ByteSize() else None,
    )
    if options.HasField("record_duration"):
        _check_duration("options.record_duration", options.record_duration)
    if request.HasField("max_age"):
        _check_duration("max_age", request.max_age)
        job.max_age.CopyFrom(request.max_age)
    return job


def _check_section(resolved_url: ResolvedUrl, options: IngestOptions) -> None:
    """Raise Failure INVALID_REQUEST for a section of something that has none."""
    selection = resolved_url.selection
    if not selects_section(selection):
        return
    for name in ("start_offset", "end_offset"):
        _check_duration(f"selection.{name}", getattr(selection, name))
    name = "start_offset" if selection.HasField("start_offset") else "end_offset"
    problem = ""
    if options.HasField("record_duration"):
        problem = "must be unset with options.record_duration: a recording begins when it is made"
    elif options.subtitle_languages:
        problem = "must be unset with options.subtitle_languages: a section has no subtitles"
    elif resolved_url.source.in_bucket:
        problem = "must be unset for an object in a bucket: convert it with a recipe that has it"
    if problem:
        raise invalid({f"selection.{name}": problem})


def _check_duration(field: str, duration: Duration) -> None:
    """Raise Failure INVALID_REQUEST for a duration that cannot be written as JSON."""
    if duration.seconds > LONGEST_SECONDS or not 0 <= duration.nanos < 10**9:
        raise invalid({field: "must be at most 315,576,000,000 seconds, with 0 to 999,999,999 ns"})
