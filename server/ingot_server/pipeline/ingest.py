"""One URL in, one media out: the sequence of an ingest.

    resolve -> download into scratch, parts going up to S3 meanwhile -> probe -> commit

Until the commit nothing of the media can be seen; whatever ends the sequence before it takes the
scratch file, the blob and the unfinished upload away again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

from ingot.v1 import job_pb2
from ingot.v1.job_pb2 import Job
from ingot.v1.media_pb2 import Media
from ingot_server.config import Settings
from ingot_server.egress.proxy import EgressProxy
from ingot_server.errors import Failure
from ingot_server.jobs.lease import Lease
from ingot_server.library.blobs import Blobs
from ingot_server.library.catalog import Catalog
from ingot_server.library.freshness import age
from ingot_server.pipeline.describe import check_selection, check_stored, describe, extension
from ingot_server.pipeline.download import Downloaded, download
from ingot_server.pipeline.probe import Prober
from ingot_server.pipeline.progress import Meter
from ingot_server.pipeline.scratch import Scratch, ScratchFile
from ingot_server.pipeline.upload import Upload
from ingot_server.sources import pick
from ingot_server.sources.source import Identity

logger = logging.getLogger(__name__)

REPORT_SECONDS: Final = 0.25


@dataclass(slots=True)
class Pipeline:
    """What an ingest works with; one for all jobs of a worker."""

    catalog: Catalog
    blobs: Blobs
    egress: EgressProxy
    scratch: Scratch
    prober: Prober
    settings: Settings
    _turns: dict[str, asyncio.Semaphore] = field(default_factory=dict)

    async def ingest(self, job: Job, lease: Lease) -> tuple[Media, bool]:
        """Brings `job.url` into the store; answers with the media and whether it was there before.

        Raises Failure with the reason why not. Safe to repeat: the media's name is always the same.
        """
        source, identity = pick(job.url)
        await lease.update(_entering(job_pb2.JOB_STAGE_RESOLVING))
        stored = await self.catalog.get(job.media.id)
        if stored is not None and not (source.mutable and _older(stored, job)):
            return stored, True
        try:
            media = await self._fetch(job, identity, stored, lease)
        except Failure as failure:
            await self.catalog.remember_absence(job.media.id, failure)
            raise
        await self.catalog.forget_absence(job.media.id)
        return media, stored is not None and media.blob.url == stored.blob.url

    async def _fetch(
        self, job: Job, identity: Identity, stored: Media | None, lease: Lease
    ) -> Media:
        host = urlsplit(identity.url).hostname or ""
        turn = self._turns.setdefault(host, asyncio.Semaphore(self.settings.jobs_per_host))
        key = f"media/{job.media.id}/{job.id}-{job.attempt}{extension(identity.url)}"
        meter = Meter()
        async with (
            turn,
            self.scratch.open(job.id, job.attempt) as file,
            _reporting(lease, meter),
            Upload(self.blobs, key, file) as upload,
        ):
            await lease.update(_entering(job_pb2.JOB_STAGE_DOWNLOADING))
            downloaded = await upload.alongside(
                self._download(job.id, identity.url, file, stored, meter)
            )
            if downloaded is None:
                assert stored is not None
                return await self._confirm(stored, lease)
            await lease.update(_entering(job_pb2.JOB_STAGE_PROBING))
            media = await upload.alongside(self.prober.probe(file.path))
            check_selection(media, job.selection)
            await lease.update(_entering(job_pb2.JOB_STAGE_STORING))
            check_stored(await upload.finish(), downloaded)
            describe(media, job, identity, downloaded, blob_url=self.blobs.url(key))
            await lease.update(_entering(job_pb2.JOB_STAGE_COMMITTING))
            return await self._commit(media, stored, upload, superseding=job.attempt > 1)

    async def _download(
        self, job_id: str, url: str, file: ScratchFile, stored: Media | None, meter: Meter
    ) -> Downloaded | None:
        egress = self.egress.issue(job_id)
        try:
            return await download(
                url,
                file,
                proxy_url=egress.proxy_url,
                settings=self.settings,
                freshness=stored.freshness if stored is not None else None,
                progress=meter.advance,
            )
        finally:
            egress.revoke()

    async def _confirm(self, stored: Media, lease: Lease) -> Media:
        """Writes down that the source still has what is stored."""
        confirmed = Media()
        confirmed.CopyFrom(stored)
        confirmed.freshness.validate_time.FromDatetime(datetime.now(UTC))
        await lease.update(_entering(job_pb2.JOB_STAGE_COMMITTING))
        return await self.catalog.commit(confirmed, replacing=stored.etag)

    async def _commit(
        self, media: Media, stored: Media | None, upload: Upload, *, superseding: bool
    ) -> Media:
        """Writes the manifest; answers with the one that stands, which may be another's."""
        replacing = ""
        if stored is not None:
            media.create_time.CopyFrom(stored.create_time)
            replacing = stored.etag
        upload.keep()
        committing = asyncio.create_task(self.catalog.commit(media, replacing=replacing))
        try:
            winner = await asyncio.shield(committing)
        except (asyncio.CancelledError, Failure):
            # The manifest may be there all the same: only the bucket tells whose blob it names.
            await asyncio.wait([committing])
            standing = await self.catalog.get(media.id)
            if standing is None or standing.blob.url != media.blob.url:
                await upload.discard()
            raise
        if winner.blob.url != media.blob.url:
            await upload.discard()
        elif superseding or stored is not None:
            await self._remove_superseded(winner)
        return winner

    async def _remove_superseded(self, media: Media) -> None:
        """Removes what lost attempts and the version before left: none can be committed now."""
        folder = f"media/{media.id}/"
        try:
            await self.blobs.remove_tree(
                folder, keep=(self.blobs.key(media.blob.url), folder + "media.json")
            )
            await self.blobs.abort_uploads(folder)
        except Failure as failure:
            logger.warning("left in the bucket: %s: %s", folder, failure.message)


def _entering(stage: job_pb2.JobStage.ValueType) -> Callable[[Job], None]:
    def mutate(job: Job) -> None:
        job.stage = stage

    return mutate


def _older(media: Media, job: Job) -> bool:
    """Whether the stored copy is older than the caller of `job` takes."""
    if not job.HasField("max_age"):
        return False
    return age(media) > job.max_age.ToTimedelta()


@contextlib.asynccontextmanager
async def _reporting(lease: Lease, meter: Meter) -> AsyncIterator[None]:
    """Writes the meter's progress into the job while the body runs, and once more at its end."""

    def mutate(job: Job) -> None:
        job.progress.CopyFrom(meter.measure())

    async def report() -> None:
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            await lease.update(mutate)

    reporter = asyncio.create_task(report())
    try:
        yield
    finally:
        reporter.cancel()
        await asyncio.wait([reporter])
