"""The download of one file, over HTTP or from Telegram.

The file is uploaded part by part while it is still downloaded. If that fails, the scratch file, the
object and the unfinished upload are removed. If only a section of it is requested, the file is cut
before it is uploaded.
"""

from __future__ import annotations

import contextlib
import mimetypes
from collections.abc import AsyncIterator
from dataclasses import replace

from ingot.v1 import job_pb2
from ingot.v1.media_pb2 import Media
from ingot_server.config import Settings
from ingot_server.jobs.changes import described, entered
from ingot_server.library.blobs import Blobs
from ingot_server.library.manifest_pb2 import SourceVersion
from ingot_server.pipeline.attempt import Attempt, Retry, Stored
from ingot_server.pipeline.description import extension, title_of
from ingot_server.pipeline.job_egress import JobEgress
from ingot_server.pipeline.landing import Landing
from ingot_server.pipeline.progress import Meter, downloading
from ingot_server.pipeline.received import Received
from ingot_server.pipeline.validation import check_size
from ingot_server.section.cutter import Cutter
from ingot_server.section.remote_file import FIRST_BYTES, NotIndexed
from ingot_server.section.requested import Section
from ingot_server.telegram.bot_files import TelegramFile, receive, trusted_server
from ingot_server.transcode.speculative import SpeculativeTranscoder
from ingot_server.transfer.download import Downloaded, download
from ingot_server.transfer.fetch import Fetcher
from ingot_server.transfer.ranges import RangedDownload, Unranged
from ingot_server.transfer.scratch import Scratch, ScratchFile
from ingot_server.transfer.staged import PendingUpload, StagedUploads
from ingot_server.transfer.streaming_upload import StreamingUpload


class FileFetcher:
    """Downloads files of which the URL, or the message at Telegram, is known."""

    def __init__(
        self,
        landing: Landing,
        cutter: Cutter,
        egress: JobEgress,
        blobs: Blobs,
        scratch: Scratch,
        speculative: SpeculativeTranscoder,
        settings: Settings,
    ) -> None:
        self._landing = landing
        self._cutter = cutter
        self._egress = egress
        self._blobs = blobs
        self._scratch = scratch
        self._speculative = speculative
        self._settings = settings

    async def fetch_http(self, attempt: Attempt) -> Stored | Retry:
        """Store the file behind the URL, or confirm the stored copy if that has not changed.

        Raises Failure with the reason why not; PageResponse if the URL is not that of a file.
        """
        if (section := Section.of(attempt.job.selection)) is not None:
            try:
                return await self._fetch_ranges(attempt, section)
            except (NotIndexed, Unranged):
                pass
            async with self._receiving(attempt) as (file, meter):
                downloaded = await self._download(attempt, file, meter)
                if downloaded is None:
                    return await self._landing.confirm(attempt)
                received = _received_http(attempt, file, downloaded)
                return await self._land_section(attempt, received, section)
        suffix = extension(attempt.identity.url)
        async with self._uploading(attempt, suffix) as (file, upload, meter):
            downloaded = await upload.run_alongside(self._download(attempt, file, meter))
            if downloaded is None:
                return await self._landing.confirm(attempt)
            received = _received_http(attempt, file, downloaded)
            return Stored(await self._landing.land(attempt, received, upload), cached=False)

    async def fetch_telegram(self, attempt: Attempt) -> Stored:
        """Store the file of a bot, or of a post that needs an account.

        Raises Failure with the reason why not.
        """
        if (section := Section.of(attempt.job.selection)) is not None:
            async with self._receiving(attempt) as (file, meter):
                message = await self._receive(attempt, file, meter)
                received = _received_telegram(attempt, file, message)
                return await self._land_section(attempt, received, section)
        async with self._uploading(attempt, "") as (file, upload, meter):
            message = await upload.run_alongside(self._receive(attempt, file, meter))
            received = _received_telegram(attempt, file, message)
            return Stored(await self._landing.land(attempt, received, upload), cached=False)

    async def _fetch_ranges(self, attempt: Attempt, section: Section) -> Stored | Retry:
        """Store a section of the file behind the URL, of which only what is needed is fetched.

        Raises what `fetch_http` raises, and NotIndexed or Unranged if all of it has to be fetched.
        """
        job, stored = attempt.job, attempt.stored
        async with (
            self._scratch.folder(job.id, job.attempt) as folder,
            downloading(attempt.lease) as meter,
        ):

            def advance(done: int, total: int | None) -> None:
                meter.advance(done, total)
                self._scratch.check_space()

            async with (
                self._egress.granted(attempt) as proxy_url,
                Fetcher(self._settings, proxy_url, tries_as_browser=True) as fetcher,
            ):
                remote = RangedDownload(
                    attempt.identity.requested_url,
                    folder / "ranges",
                    fetcher,
                    self._settings,
                    advance,
                )
                version = stored.source_version if stored is not None else SourceVersion()
                if not await remote.begin(FIRST_BYTES, version):
                    return await self._landing.confirm(attempt)
                attempt.lease.note(described(Media(title=title_of(remote.filename))))
                made = await self._cutter.cut(folder / "ranges", folder, section, remote)
            received = Received(
                path=made.path,
                media_id=job.media.id,
                identity=attempt.identity,
                filename=remote.filename,
                etag=remote.version.etag,
                last_modified=remote.version.last_modified,
                mutable=True,
                section=made.section,
            )
            return await self._land_cut(attempt, received)

    async def _land_section(self, attempt: Attempt, received: Received, section: Section) -> Stored:
        """Store a section of a file that was received."""
        job = attempt.job
        async with self._scratch.folder(job.id, job.attempt) as folder:
            await attempt.lease.update(entered(job_pb2.JOB_STAGE_PROBING))
            made = await self._cutter.cut(received.path, folder, section)
            received = replace(received, path=made.path, section=made.section)
            return await self._land_cut(attempt, received)

    async def _land_cut(self, attempt: Attempt, received: Received) -> Stored:
        check_size(received.path.stat().st_size, self._settings)
        kind = mimetypes.guess_type(received.path.name)[0] or "application/octet-stream"
        async with (
            StagedUploads(self._blobs) as staged_uploads,
            PendingUpload(staged_uploads, attempt.blob_stem, content_type=kind) as upload,
        ):
            upload.start(received.path)
            return Stored(await self._landing.land(attempt, received, upload), cached=False)

    @contextlib.asynccontextmanager
    async def _receiving(self, attempt: Attempt) -> AsyncIterator[tuple[ScratchFile, Meter]]:
        """Open a scratch file, and its meter."""
        async with (
            self._scratch.open(attempt.job.id, attempt.job.attempt) as file,
            downloading(attempt.lease) as meter,
        ):
            yield file, meter

    @contextlib.asynccontextmanager
    async def _uploading(
        self, attempt: Attempt, suffix: str
    ) -> AsyncIterator[tuple[ScratchFile, StreamingUpload, Meter]]:
        """Open a scratch file that is uploaded while it grows, and its meter."""
        async with (
            self._scratch.open(attempt.job.id, attempt.job.attempt) as file,
            StreamingUpload(self._blobs, attempt.blob_stem + suffix, file) as upload,
            downloading(attempt.lease) as meter,
        ):
            self._speculative.watch_file(attempt.job.media.id, file)
            yield file, upload, meter

    async def _download(
        self, attempt: Attempt, file: ScratchFile, meter: Meter
    ) -> Downloaded | None:
        async with self._egress.granted(attempt) as proxy_url:
            return await download(
                attempt.identity.requested_url,
                file,
                proxy_url=proxy_url,
                settings=self._settings,
                stored=attempt.stored.source_version if attempt.stored is not None else None,
                progress=meter.advance,
                on_name=lambda name: attempt.lease.note(described(Media(title=title_of(name)))),
            )

    async def _receive(self, attempt: Attempt, file: ScratchFile, meter: Meter) -> TelegramFile:
        trusted = trusted_server(self._settings)
        async with self._egress.granted(attempt, trusted=trusted) as proxy_url:
            return await receive(
                attempt.identity,
                file,
                proxy_url=proxy_url,
                settings=self._settings,
                progress=meter.advance,
                on_found=lambda media: attempt.lease.note(described(media)),
            )


def _received_http(attempt: Attempt, file: ScratchFile, downloaded: Downloaded) -> Received:
    return Received(
        path=file.path,
        media_id=attempt.job.media.id,
        identity=attempt.identity,
        filename=downloaded.filename,
        etag=downloaded.http_etag,
        last_modified=downloaded.http_last_modified,
        mutable=True,
        delivered=downloaded.delivered,
    )


def _received_telegram(attempt: Attempt, file: ScratchFile, message: TelegramFile) -> Received:
    return Received(
        path=file.path,
        media_id=attempt.job.media.id,
        identity=attempt.identity,
        filename=message.downloaded.filename,
        delivered=message.downloaded.delivered,
        details=message,
    )
