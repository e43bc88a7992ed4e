"""The extractor as a fetch method: yt-dlp finds what is behind the URL.

resolve -> a list? its entries become jobs
-> a better identity? stored already, or being made: that -> else the job has it now
-> not a list, or not live, as the job assumed? the job ingests the media item itself
fetch into a scratch folder -> landing
"""

from __future__ import annotations

import mimetypes
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ingot.v1.job_pb2 import IngestOptions
from ingot_server.extractor.result import Entries, Resolved
from ingot_server.extractor.session import Session
from ingot_server.jobs.changes import described, extracted_with
from ingot_server.library.blobs import Blobs
from ingot_server.library.catalog import Catalog
from ingot_server.pipeline.attempt import Attempt, AttemptResult, Expanded, NotAList, Stored
from ingot_server.pipeline.description import announced, name_extension
from ingot_server.pipeline.extraction_session import ExtractionSessions
from ingot_server.pipeline.identification import better_identity, ingest_as_media, take_identity
from ingot_server.pipeline.landing import Landing
from ingot_server.pipeline.playlist import Playlists
from ingot_server.pipeline.progress import Meter, downloading
from ingot_server.pipeline.received import Extracted, Received
from ingot_server.section.requested import Section, StoredSection
from ingot_server.sources.source import Identity
from ingot_server.transfer.scratch import Scratch
from ingot_server.transfer.staged import PendingUpload, StagedUploads


class ExtractorFetcher:
    """Fetches what yt-dlp finds behind a URL. One object for each worker."""

    def __init__(
        self,
        sessions: ExtractionSessions,
        playlists: Playlists,
        landing: Landing,
        catalog: Catalog,
        blobs: Blobs,
        scratch: Scratch,
    ) -> None:
        self._sessions = sessions
        self._playlists = playlists
        self._landing = landing
        self._catalog = catalog
        self._blobs = blobs
        self._scratch = scratch

    async def fetch(self, attempt: Attempt, *, is_manifest: bool = False) -> AttemptResult:
        """Ingest the media item behind the URL, or expand its list.

        `is_manifest` says that the URL is known to be that of an HLS or DASH manifest. Raises
        Failure with the reason why not.
        """
        options = IngestOptions()
        options.CopyFrom(attempt.job.options)
        if not attempt.records:
            options.ClearField("record_duration")
        found = await self._sessions.run(
            attempt, options, partial(self._use, attempt), is_manifest=is_manifest
        )
        if not isinstance(found, Entries):
            return found
        await self._playlists.ingest_entries(
            found.urls, attempt.job, attempt.lease, total=found.total, title=found.title
        )
        return Expanded()

    async def _use(
        self, attempt: Attempt, session: Session, folder: Path
    ) -> AttemptResult | Entries:
        found = await session.resolve()
        if isinstance(found, Entries):
            return found
        if attempt.lists_only:
            return NotAList()
        if attempt.seeks_list or (attempt.records and not found.is_live):
            return await ingest_as_media(attempt, is_live=found.is_live)
        attempt.lease.note(described(announced(found)))
        await attempt.lease.update(extracted_with(found.extraction))
        identity = better_identity(attempt.identity, found)
        known = await take_identity(self._catalog, attempt, identity)
        return known or await self._fetch_file(attempt, identity, found, session, folder)

    async def _fetch_file(
        self,
        attempt: Attempt,
        identity: Identity,
        found: Resolved,
        session: Session,
        folder: Path,
    ) -> Stored:
        section = Section.of(attempt.job.selection)
        self._landing.check_announced(found, section)
        async with (
            StagedUploads(self._blobs) as staged_uploads,
            downloading(attempt.lease) as meter,
        ):
            if found.size_bytes and section is None:
                self._scratch.reserve(folder, found.size_bytes)
            files = folder / "files"
            files.mkdir()
            fetched = await session.fetch(files, self._progress(meter))
            cut = None
            if section is not None and fetched.section is not None:
                start, whole = fetched.section.start_seconds, fetched.section.whole_seconds
                cut = StoredSection(section, start, whole or found.duration_seconds)
            received = Received(
                path=fetched.path,
                media_id=attempt.job.media.id,
                identity=identity,
                mutable=attempt.mutable,
                announced_seconds=None if found.is_live else found.duration_seconds,
                announced_by_manifest=fetched.announcement,
                section=cut,
                details=Extracted(found, fetched.side_files, staged_uploads),
            )
            kind = mimetypes.guess_type(fetched.path.name)[0] or "application/octet-stream"
            async with PendingUpload(
                staged_uploads, attempt.blob_stem, content_type=kind
            ) as upload:
                upload.start(fetched.path, name_extension(fetched.path.name))
                winner = await self._landing.land(attempt, received, upload)
                return Stored(winner, cached=False)

    def _progress(self, meter: Meter) -> Callable[[int, int | None], None]:
        def advance(done: int, total: int | None) -> None:
            meter.advance(done, total)
            self._scratch.check_space()

        return advance
