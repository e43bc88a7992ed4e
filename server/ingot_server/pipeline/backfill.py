"""The backfill of side files: a stored media item is extracted again, but not fetched again."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from ingot.v1.job_pb2 import IngestOptions
from ingot.v1.media_pb2 import Media
from ingot_server.errors import Failure
from ingot_server.event_log import EventLogger
from ingot_server.extractor.result import Resolved
from ingot_server.extractor.session import Session
from ingot_server.intake import requested_side_files
from ingot_server.library.blobs import Blobs
from ingot_server.library.catalog import Catalog
from ingot_server.library.manifest_pb2 import Manifest
from ingot_server.log_events import Event
from ingot_server.pipeline.attempt import Attempt, blob_stem
from ingot_server.pipeline.extraction_session import ExtractionSessions
from ingot_server.pipeline.identification import better_identity
from ingot_server.pipeline.side_files import stage_side_files
from ingot_server.transfer.staged import StagedUploads

logger = EventLogger(__name__)


class Backfill:
    """Adds side files to stored media items. One object for each worker."""

    def __init__(self, sessions: ExtractionSessions, catalog: Catalog, blobs: Blobs) -> None:
        self._sessions = sessions
        self._catalog = catalog
        self._blobs = blobs

    async def add_side_files(
        self, attempt: Attempt, stored: Manifest, options: IngestOptions
    ) -> Media:
        """Return the media item with the side files of `options`, or unchanged if that fails."""
        try:
            return await self._sessions.run(
                attempt, options, partial(self._use, attempt, stored, options)
            )
        except Failure as failure:
            logger.warning(
                Event.SIDE_FILES_INCOMPLETE,
                "side files of %s: %s",
                stored.media.id,
                failure.message,
                media_id=stored.media.id,
                reason=failure.reason,
            )
            return stored.media

    async def _use(
        self,
        attempt: Attempt,
        stored: Manifest,
        options: IngestOptions,
        session: Session,
        folder: Path,
    ) -> Media:
        found = await session.resolve()
        if not isinstance(found, Resolved):
            return stored.media
        if better_identity(attempt.identity, found).key != stored.media.source.key:
            return stored.media  # the page shows another media item now
        files = await session.fetch_side_files(folder)
        manifest = Manifest()
        manifest.CopyFrom(stored)
        requested = {*stored.requested_side_files, *requested_side_files(options)}
        manifest.requested_side_files[:] = sorted(requested)
        media = manifest.media
        known = {(side.kind, side.language, side.automatic) for side in media.side_files}
        new = [side for side in files if (side.kind, side.language, side.automatic) not in known]
        stem = blob_stem(attempt.lease, media.id)
        async with StagedUploads(self._blobs) as staged_uploads:
            media.side_files.extend(await stage_side_files(self._blobs, staged_uploads, stem, new))
            # After a failure the manifest may be written all the same.
            staged_uploads.keep()
            written = await self._catalog.replace(manifest, lifetime=attempt.lease.time_left())
            if written is None:
                await staged_uploads.discard()
                written = await self._catalog.get(media.id) or stored
            return written.media
