"""What is behind a URL, for Resolve: the source is asked as for an ingest, and nothing is fetched.

HTTP            the head of the file; a page or a manifest is extracted
EXTRACTOR       yt-dlp says what there is
TELEGRAM_POST   the same; an album is what Telegram's page shows of it
TELEGRAM_FILE   the Bot API says how a file is called; of a private post nothing is known
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final, assert_never
from urllib.parse import urlsplit

from ingot.v1 import reason_pb2
from ingot.v1.ingest_service_pb2 import ListEntry, ResolveResponse
from ingot.v1.job_pb2 import IngestOptions
from ingot.v1.media_pb2 import Media
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.extractor.result import Entries, Offer, Resolved
from ingot_server.extractor.session import Session
from ingot_server.jobs.lifecycle import is_listing
from ingot_server.library.identity import media_id
from ingot_server.pipeline.attempt import Attempt
from ingot_server.pipeline.description import announced, title_of
from ingot_server.pipeline.extraction_session import ExtractionSessions
from ingot_server.pipeline.identification import better_identity
from ingot_server.pipeline.job_egress import JobEgress
from ingot_server.pipeline.page_response import (
    NO_MANIFEST,
    NO_MEDIA,
    extract_page,
    fetch_misnamed,
)
from ingot_server.sources import pick
from ingot_server.sources.source import FetchMethod
from ingot_server.sources.telegram import file_id_of
from ingot_server.telegram.bot_files import locate, trusted_server
from ingot_server.telegram.post_page import PostPage, read_post_page
from ingot_server.transfer.file_head import read_file_head
from ingot_server.transfer.headers import LiveResponse, PageResponse

MOST_ENTRIES: Final = 200


class Previewer:
    """Asks sources what is behind URLs. One object for each worker."""

    def __init__(self, sessions: ExtractionSessions, egress: JobEgress, settings: Settings) -> None:
        self._sessions = sessions
        self._egress = egress
        self._settings = settings

    async def preview(self, attempt: Attempt) -> ResolveResponse:
        """Return what the URL of the attempt's job names; `stored` is not set.

        Raises Failure with the reason why an ingest would fail. Safe to repeat.
        """
        match attempt.source.fetch_method:
            case FetchMethod.HTTP:
                return await self._preview_http(attempt)
            case FetchMethod.EXTRACTOR:
                return await self._preview_extracted(attempt)
            case FetchMethod.TELEGRAM_POST:
                return await self._preview_post(attempt)
            case FetchMethod.TELEGRAM_FILE:
                return await self._preview_telegram_file(attempt)
            case FetchMethod.OBJECT | FetchMethod.UPLOAD:
                raise AssertionError("the API knows what is in a bucket")
            case method:
                assert_never(method)

    async def _preview_http(self, attempt: Attempt) -> ResolveResponse:
        if attempt.seeks_list or attempt.records:
            try:
                return await self._extract(attempt)
            except Failure as failure:
                if failure.reason not in NO_MEDIA:
                    raise
        try:
            return await self._preview_file(attempt)
        except PageResponse as page:

            async def extract(is_manifest: bool) -> ResolveResponse:
                return await self._extract(attempt, is_manifest=is_manifest)

            return await extract_page(page, urlsplit(attempt.identity.url).hostname or "", extract)

    async def _preview_extracted(self, attempt: Attempt) -> ResolveResponse:
        try:
            return await self._extract(attempt)
        except Failure as failure:
            if not attempt.source.is_manifest or failure.reason not in NO_MANIFEST:
                raise
            return await fetch_misnamed(failure, partial(self._preview_file, attempt))

    async def _preview_file(self, attempt: Attempt) -> ResolveResponse:
        try:
            async with self._egress.granted(attempt) as proxy_url:
                head = await read_file_head(
                    attempt.identity.requested_url, proxy_url=proxy_url, settings=self._settings
                )
        except LiveResponse:
            station = _media_item(attempt, Media())
            station.kind = ResolveResponse.KIND_LIVE
            return station
        found = _media_item(attempt, Media(title=title_of(head.filename)))
        found.content_type = head.content_type
        if head.size_bytes is not None:
            found.size_bytes = head.size_bytes
        return found

    async def _extract(self, attempt: Attempt, *, is_manifest: bool = False) -> ResolveResponse:
        options = IngestOptions()
        options.CopyFrom(attempt.job.options)
        options.max_entries = _most_entries(attempt)
        if not attempt.records:
            options.ClearField("record_duration")

        async def resolve(session: Session, _: Path) -> Resolved | Entries:
            return await session.resolve()

        try:
            found = await self._sessions.run(
                attempt, options, resolve, is_manifest=is_manifest, preview=True
            )
        except Failure as failure:
            if failure.reason != reason_pb2.REASON_UPCOMING:
                raise
            # Many extractors say no more about it.
            upcoming = _media_item(attempt, Media())
            upcoming.kind = ResolveResponse.KIND_UPCOMING
            if moment := failure.metadata.get("start_time"):
                upcoming.start_time.FromDatetime(datetime.fromisoformat(moment))
            return upcoming
        if isinstance(found, Entries):
            return _list(attempt, found.entries, found.title, found.total)
        return _extracted(attempt, found)

    async def _preview_post(self, attempt: Attempt) -> ResolveResponse:
        if _names_album(attempt):
            page = await self._read_page(attempt)
            if len(page.videos) > 1:
                entries = [ListEntry(url=link) for link in page.videos]
                return _list(attempt, entries, page.title, len(entries))
        try:
            return await self._extract(attempt)
        except Failure as failure:
            if failure.reason not in NO_MEDIA:
                raise
            finding = (await self._read_page(attempt)).finding()
            if finding is None:
                raise
            raise finding.failure from failure

    async def _read_page(self, attempt: Attempt) -> PostPage:
        async with self._egress.granted(attempt) as proxy_url:
            return await read_post_page(attempt.identity.url, proxy_url, self._settings)

    async def _preview_telegram_file(self, attempt: Attempt) -> ResolveResponse:
        if _names_album(attempt):
            return ResolveResponse(kind=ResolveResponse.KIND_LIST, media=_identified(attempt))
        file_id = file_id_of(attempt.identity)
        if file_id is None:
            return _media_item(attempt, Media())
        trusted = trusted_server(self._settings)
        async with self._egress.granted(attempt, trusted=trusted) as proxy_url:
            located = await locate(file_id, proxy_url=proxy_url, settings=self._settings)
        found = _media_item(attempt, Media(title=title_of(located.filename)))
        if located.size_bytes is not None:
            found.size_bytes = located.size_bytes
        return found


def _extracted(attempt: Attempt, found: Resolved) -> ResolveResponse:
    offer = found.offer
    assert offer is not None
    identity = better_identity(attempt.identity, found)
    recorded = attempt.records and found.is_live
    target = attempt.id_of(identity) if recorded else media_id(identity.key, attempt.job.selection)
    response = ResolveResponse(
        kind=_kind(found, offer), media=identity.media(target), formats=offer.formats
    )
    response.media.MergeFrom(announced(found))
    if offer.selection_error:
        failure = Failure(
            reason_pb2.REASON_SELECTION_UNAVAILABLE,
            f"{offer.selection_error}. Request another selection.",
        )
        response.selection_error.CopyFrom(failure.status())
        return response
    response.extraction.CopyFrom(found.extraction)
    if found.size_bytes is not None:
        response.size_bytes = found.size_bytes
    if offer.start_time is not None and offer.is_upcoming:
        response.start_time.FromDatetime(offer.start_time)
    return response


def _kind(found: Resolved, offer: Offer) -> ResolveResponse.Kind.ValueType:
    if offer.is_upcoming:
        return ResolveResponse.KIND_UPCOMING
    return ResolveResponse.KIND_LIVE if found.is_live else ResolveResponse.KIND_MEDIA


def _list(
    attempt: Attempt, entries: Sequence[ListEntry], title: str, total: int
) -> ResolveResponse:
    if not (entries or is_listing(attempt.job)):
        raise Failure(reason_pb2.REASON_NOT_MEDIA, "The list has no entries. Use another list.")
    most = _most_entries(attempt)
    response = ResolveResponse(
        kind=ResolveResponse.KIND_LIST, media=_identified(attempt), entries=entries[:most]
    )
    response.media.title = title
    # As many as were asked for: there may be more.
    if total != len(entries) or total <= most:
        response.entry_count = total
    return response


def _most_entries(attempt: Attempt) -> int:
    """Return how many entries of a list the preview has at most."""
    return attempt.job.options.max_entries if is_listing(attempt.job) else MOST_ENTRIES


def _media_item(attempt: Attempt, described: Media) -> ResolveResponse:
    response = ResolveResponse(kind=ResolveResponse.KIND_MEDIA, media=_identified(attempt))
    response.media.MergeFrom(described)
    return response


def _identified(attempt: Attempt) -> Media:
    return attempt.identity.media(attempt.job.media.id)


def _names_album(attempt: Attempt) -> bool:
    return pick(attempt.identity.url)[1].key != attempt.identity.key
