"""The landing of a received file: from scratch space to a committed media item.

    land      probe, while the last parts are uploaded -> validate -> store -> describe -> commit
    adopt     probe -> validate -> describe -> commit; the object stays in its bucket
    confirm   commit the stored manifest with a new time: the source has no newer content

Until the commit nothing of a media item is visible. If landing fails, the caller's upload removes
the objects when its context ends.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TypeAlias

from ingot.v1 import job_pb2, reason_pb2
from ingot.v1.media_pb2 import Blob, Media
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.extractor.result import Resolved
from ingot_server.jobs.changes import entered
from ingot_server.library.blobs import Blobs
from ingot_server.library.catalog import Catalog
from ingot_server.library.manifest_pb2 import Manifest
from ingot_server.pipeline.attempt import Attempt, Retry, Stored, blob_stem
from ingot_server.pipeline.commit import commit
from ingot_server.pipeline.description import describe
from ingot_server.pipeline.received import Extracted, Received
from ingot_server.pipeline.side_files import stage_side_files
from ingot_server.pipeline.validation import (
    check_announced,
    check_duration,
    check_manifest,
    check_selection,
    check_stored,
)
from ingot_server.probe.prober import Prober
from ingot_server.section.requested import Section
from ingot_server.transfer.scratch import ScratchFile
from ingot_server.transfer.staged import PendingUpload
from ingot_server.transfer.streaming_upload import StreamingUpload

FileUpload: TypeAlias = StreamingUpload | PendingUpload
"""The upload of one received file: while it still grows, or after it was received."""


class Landing:
    """Validates, stores, describes and commits received files. One object for each worker."""

    def __init__(self, catalog: Catalog, blobs: Blobs, prober: Prober, settings: Settings) -> None:
        self._catalog = catalog
        self._blobs = blobs
        self._prober = prober
        self._settings = settings

    def check_announced(self, found: Resolved, section: Section | None) -> None:
        """Raise Failure TOO_LONG or TOO_LARGE for what its source already announces to be that."""
        check_announced(found, section, self._settings)

    async def land(self, attempt: Attempt, received: Received, upload: FileUpload) -> Media:
        """Return the media item that stands, which may be that of another job.

        Raises Failure with the reason why the file cannot be committed.
        """
        lease, job = attempt.lease, attempt.job
        await lease.update(entered(job_pb2.JOB_STAGE_PROBING))
        media = await upload.run_alongside(self._validated(attempt, received))
        await lease.update(entered(job_pb2.JOB_STAGE_STORING))
        staged = await upload.finish()
        check_stored(staged)
        url = self._blobs.url(staged.key)
        manifest = describe(
            media, job, received, Blob(url=url, size_bytes=staged.file_bytes, sha256=staged.sha256)
        )
        if isinstance(extracted := received.details, Extracted):
            stem = blob_stem(lease, received.media_id)
            manifest.media.side_files.extend(
                await stage_side_files(
                    self._blobs, extracted.staged_uploads, stem, extracted.side_files
                )
            )
        return await commit(
            self._catalog,
            self._blobs,
            manifest,
            upload,
            lease,
            stored=attempt.stored,
        )

    async def adopt(
        self,
        attempt: Attempt,
        received: Received,
        file: ScratchFile,
        check_unchanged: Callable[[], Awaitable[None]],
    ) -> Media:
        """Commit an object that stays where it is. `file` is its copy, for probing only.

        `check_unchanged` raises a Failure if the object is no longer the one that was copied.
        """
        await attempt.lease.update(entered(job_pb2.JOB_STAGE_PROBING))
        media = await self._validated(attempt, received)
        await check_unchanged()
        url = received.identity.url
        manifest = describe(
            media, attempt.job, received, Blob(url=url, size_bytes=file.size, sha256=file.sha256)
        )
        await attempt.lease.update(entered(job_pb2.JOB_STAGE_COMMITTING))
        replacing = ""
        if attempt.stored is not None:
            manifest.media.create_time.CopyFrom(attempt.stored.media.create_time)
            manifest.media.pinned = attempt.stored.media.pinned
            replacing = attempt.stored.media.etag
        committed = await self._catalog.commit(
            manifest, replacing=replacing, time_left=attempt.lease.time_left
        )
        return committed.media

    async def confirm(self, attempt: Attempt) -> Stored | Retry:
        """Record that the source still has the stored content, unless that is not stored now."""
        stored = attempt.stored
        assert stored is not None
        confirmed = Manifest()
        confirmed.CopyFrom(stored)
        confirmed.source_version.confirm_time.FromDatetime(datetime.now(UTC))
        await attempt.lease.update(entered(job_pb2.JOB_STAGE_COMMITTING))
        replaced = await self._catalog.replace(confirmed, lifetime=attempt.lease.time_left())
        return Stored(replaced.media, cached=True) if replaced is not None else Retry()

    async def _validated(self, attempt: Attempt, received: Received) -> Media:
        """Probe the file, and return what it contains if that is what the job asks for."""
        try:
            media = await self._prober.probe(received.path, delivered=received.delivered)
        except Failure as failure:
            if received.delivered and failure.reason == reason_pb2.REASON_TRUNCATED:
                raise failure.as_final() from failure
            raise
        is_extracted = isinstance(received.details, Extracted)
        check_selection(media, attempt.job.selection, extracted=is_extracted)
        if received.section is not None:
            received.section.describe(media)
        else:
            check_duration(media, received.announced_seconds)
            check_manifest(media, received.announced_by_manifest)
        return media
