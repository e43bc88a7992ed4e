"""The download of one file, over HTTP or from Telegram.

The file is uploaded part by part while it is still downloaded. If that fails, the scratch file, the
object and the unfinished upload are removed.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from ingot.v1.media_pb2 import Media
from ingot_server.config import Settings
from ingot_server.jobs.changes import described
from ingot_server.library.blobs import Blobs
from ingot_server.pipeline.attempt import Attempt, Retry, Stored
from ingot_server.pipeline.description import extension, title_of
from ingot_server.pipeline.job_egress import JobEgress
from ingot_server.pipeline.landing import Landing
from ingot_server.pipeline.progress import Meter, downloading
from ingot_server.pipeline.received import Received
from ingot_server.telegram.bot_files import TelegramFile, receive, trusted_server
from ingot_server.transcode.speculative import SpeculativeTranscoder
from ingot_server.transfer.download import Downloaded, download
from ingot_server.transfer.scratch import Scratch, ScratchFile
from ingot_server.transfer.streaming_upload import StreamingUpload


class FileFetcher:
    """Downloads files of which the URL, or the message at Telegram, is known."""

    def __init__(
        self,
        landing: Landing,
        egress: JobEgress,
        blobs: Blobs,
        scratch: Scratch,
        speculative: SpeculativeTranscoder,
        settings: Settings,
    ) -> None:
        self._landing = landing
        self._egress = egress
        self._blobs = blobs
        self._scratch = scratch
        self._speculative = speculative
        self._settings = settings

    async def fetch_http(self, attempt: Attempt) -> Stored | Retry:
        """Store the file behind the URL, or confirm the stored copy if that has not changed.

        Raises Failure with the reason why not; PageResponse if the URL is not that of a file.
        """
        suffix = extension(attempt.identity.url)
        async with self._uploading(attempt, suffix) as (file, upload, meter):
            downloaded = await upload.run_alongside(self._download(attempt, file, meter))
            if downloaded is None:
                return await self._landing.confirm(attempt)
            received = Received(
                path=file.path,
                media_id=attempt.job.media.id,
                identity=attempt.identity,
                filename=downloaded.filename,
                etag=downloaded.http_etag,
                last_modified=downloaded.http_last_modified,
                mutable=True,
                delivered=downloaded.delivered,
            )
            return Stored(await self._landing.land(attempt, received, upload), cached=False)

    async def fetch_telegram(self, attempt: Attempt) -> Stored:
        """Store the file of a bot, or of a post that needs an account.

        Raises Failure with the reason why not.
        """
        async with self._uploading(attempt, "") as (file, upload, meter):
            message = await upload.run_alongside(self._receive(attempt, file, meter))
            received = Received(
                path=file.path,
                media_id=attempt.job.media.id,
                identity=attempt.identity,
                filename=message.downloaded.filename,
                delivered=message.downloaded.delivered,
                details=message,
            )
            return Stored(await self._landing.land(attempt, received, upload), cached=False)

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
        with self._egress.granted(attempt) as proxy_url:
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
        with self._egress.granted(attempt, trusted=trusted) as proxy_url:
            return await receive(
                attempt.identity,
                file,
                proxy_url=proxy_url,
                settings=self._settings,
                progress=meter.advance,
                on_found=lambda media: attempt.lease.note(described(media)),
            )
