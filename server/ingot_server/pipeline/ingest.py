"""One URL in, one media out: the sequence of an ingest.

    pick -> catalog -> turn at the source -> the source's way -> probe -> commit

    FETCH           the URL is the file; a page or a manifest goes the way EXTRACT
    EXTRACT         yt-dlp finds the files (extract.py); a list becomes jobs (playlist.py)
    TELEGRAM_POST   yt-dlp finds the file, and Telegram's page says why not (telegram/posts.py)
    TELEGRAM_FILE   Telegram says where the file is (telegram/files.py)
    OBJECT          the file lies in the bucket already (object.py)

A file that is fetched goes up to S3 part by part while it still comes down. Until the commit
nothing of the media can be seen; whatever ends the sequence before it takes the scratch files, the
blob and the unfinished upload away again.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

from ingot.v1 import job_pb2, reason_pb2
from ingot.v1.job_pb2 import Job
from ingot.v1.media_pb2 import Media
from ingot_server.egress.turns import Turns
from ingot_server.errors import Failure
from ingot_server.jobs.lease import Lease
from ingot_server.jobs.lifecycle import is_conversion, is_workflow
from ingot_server.library.freshness import age
from ingot_server.library.side_files import lacking
from ingot_server.pipeline.commit import commit, entering, reporting
from ingot_server.pipeline.complete import complete
from ingot_server.pipeline.convert import convert
from ingot_server.pipeline.describe import check_selection, check_stored, describe, extension
from ingot_server.pipeline.download import Downloaded, download
from ingot_server.pipeline.extract import begin_as_media, extract
from ingot_server.pipeline.object import ingest_object
from ingot_server.pipeline.playlist import names_list
from ingot_server.pipeline.progress import Meter
from ingot_server.pipeline.resources import Resources
from ingot_server.pipeline.scratch import ScratchFile
from ingot_server.pipeline.telegram import files as telegram_files
from ingot_server.pipeline.telegram.albums import bring_file
from ingot_server.pipeline.telegram.posts import bring_post
from ingot_server.pipeline.transfer.answer import ManifestAnswer, PageAnswer
from ingot_server.pipeline.upload import Upload
from ingot_server.pipeline.work import Elsewhere, Ingested, OneMedia, Outcome, Renamed, Work
from ingot_server.pipeline.workflow import run_workflow
from ingot_server.sources import pick
from ingot_server.sources.source import Way

_NO_MEDIA: Final = frozenset({reason_pb2.REASON_UNSUPPORTED_URL, reason_pb2.REASON_NOT_MEDIA})


class Pipeline:
    """Does the jobs of a worker."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._hosts = Turns(resources.settings.jobs_per_host)

    async def run(self, job: Job, lease: Lease) -> Ingested | None:
        """Does a job, whichever kind it is; answers as `ingest` does."""
        if is_conversion(job):
            return await convert(self._resources, job, lease)
        if not job.recipes:
            return await self.ingest(job, lease)
        if is_workflow(job) and not await self._names_list(job, lease):
            return None
        if not await self._hand_out(job, lease):
            await run_workflow(self._resources, lease.job, lease)
        return None

    async def _names_list(self, job: Job, lease: Lease) -> bool:
        """Runs a workflow; True: it is a list in a list, and the job is to hand that out."""
        try:
            await run_workflow(self._resources, job, lease)
        except Failure as failure:
            if not (job.parent_job_id and names_list(failure)):
                raise
        else:
            return False

        def mutate(job: Job) -> None:
            job.options.playlist = True

        await lease.disown()
        await lease.update(mutate)
        return True

    async def _hand_out(self, job: Job, lease: Lease) -> bool:
        """Leaves the job to the entries of its list; False when its URL names one media after all.

        The job is no list then. Raises Failure as `ingest` does.
        """
        await lease.update(entering(job_pb2.JOB_STAGE_RESOLVING))
        work = Work(lease, *pick(job.url, playlist=True), None)
        try:
            async with self._turn(work):
                outcome = await self._expand(work)
        except Failure as failure:
            if failure.reason not in _NO_MEDIA:
                if not failure.deferred:
                    await self._resources.catalog.remember_absence(lease.job.media.id, failure)
                raise
            outcome = OneMedia()  # a file, or nothing: whoever ingests it says what
        if outcome is None:
            return True

        def mutate(job: Job) -> None:
            job.options.playlist = False

        await lease.update(mutate)
        return False

    async def _expand(self, work: Work) -> Outcome:
        match work.source.way:
            case Way.EXTRACT | Way.FETCH:
                return await extract(self._resources, work)
            case _ if pick(work.job.url)[1].key == work.identity.key:
                return OneMedia()
            case _:
                return await self._bring(work)

    async def ingest(self, job: Job, lease: Lease) -> Ingested | None:
        """Brings `job.url` into the store; answers with the media and whether it was there before.

        None: the job has children now and waits for them without its lease. The job has no recipes.
        Raises Failure with the reason why not. Safe to repeat: the media's name is always the same.
        """
        source, identity = pick(job.url, playlist=job.options.playlist)
        if source.way is Way.OBJECT:
            return await ingest_object(self._resources, job, lease)
        await lease.update(entering(job_pb2.JOB_STAGE_RESOLVING))
        while True:
            work = Work(
                lease, source, identity, await self._resources.catalog.get(lease.job.media.id)
            )
            if work.stored is not None and not (work.mutable and _older(work.stored, job)):
                return await self._with_side_files(work, work.stored), True
            try:
                async with self._turn(work):
                    outcome = await self._bring(work)
            except Failure as failure:
                if not failure.deferred:
                    await self._resources.catalog.remember_absence(lease.job.media.id, failure)
                raise
            if isinstance(outcome, Renamed):
                continue
            assert not isinstance(outcome, OneMedia)
            if not isinstance(outcome, Elsewhere):
                break
            # Outside of the turn: the job that is followed may wait for it.
            media = await self._resources.following.result(outcome.job_id)
            if media is not None:
                return await self._with_side_files(work, media), True
        if outcome is None:
            return None
        await self._resources.catalog.forget_absence(lease.job.media.id)
        return await self._with_side_files(work, outcome[0]), outcome[1]

    async def _with_side_files(self, work: Work, media: Media) -> Media:
        """`media` with what the job asks for besides, where its source was not asked before."""
        left = lacking(media, work.job.options)
        if left is None or work.source.way not in {Way.EXTRACT, Way.FETCH}:
            return media
        async with self._turn(work):
            return await complete(self._resources, work, media, left)

    @contextlib.asynccontextmanager
    async def _turn(self, work: Work) -> AsyncIterator[None]:
        """Waits until the source, or a host of the open web, bears one more job.

        The open web is no one source: a site that refuses us says nothing about the others.
        """
        if not work.source.mutable:
            async with self._resources.care.turn(work.source.name, work.job.id):
                yield
            return
        host = urlsplit(work.identity.url).hostname or ""
        async with self._hosts.turn(host):
            yield

    async def _bring(self, work: Work) -> Outcome:
        match work.source.way:
            case Way.EXTRACT:
                return await extract(self._resources, work)
            case Way.FETCH if work.seeks_list or work.records:
                return await self._look(work)
            case Way.TELEGRAM_POST:
                return await bring_post(self._resources, work, self._receive)
            case Way.TELEGRAM_FILE:
                return await bring_file(self._resources, work, self._receive)
            case _:
                try:
                    return await self._fetch(work)
                except PageAnswer as page:
                    return await self._read_page(work, page)

    async def _look(self, work: Work) -> Outcome:
        """Only an extraction tells whether something is a list, or live."""
        try:
            return await extract(self._resources, work)
        except Failure as failure:
            if failure.reason not in _NO_MEDIA:
                raise
        return await begin_as_media(work)

    async def _read_page(self, work: Work, page: PageAnswer) -> Outcome:
        try:
            return await extract(self._resources, work, manifest=isinstance(page, ManifestAnswer))
        except Failure as failure:
            # The manifest is there: what it names and nobody has is no media that was removed.
            is_hollow = (
                isinstance(page, ManifestAnswer)
                and failure.reason == reason_pb2.REASON_MEDIA_DOES_NOT_EXIST
            )
            if failure.reason not in _NO_MEDIA and not is_hollow:
                raise
            if page.reason != reason_pb2.REASON_NOT_MEDIA:
                raise page from failure
            host = urlsplit(work.identity.url).hostname or ""
            raise Failure(
                reason_pb2.REASON_NOT_MEDIA,
                f"{host} sends a page, and no audio or video was found in it. "
                "Use the URL of the media file itself.",
                metadata=page.metadata,
            ) from failure

    async def _fetch(self, work: Work) -> Ingested:
        """The URL is the file."""
        meter = Meter()
        key = _key(work.job, extension(work.identity.url))
        async with (
            self._resources.scratch.open(work.job.id, work.job.attempt) as file,
            reporting(work.lease, meter),
            Upload(self._resources.blobs, key, file) as upload,
        ):
            await work.lease.update(entering(job_pb2.JOB_STAGE_DOWNLOADING))
            self._resources.ahead.follow(work.job.media.id, file)
            downloaded = await upload.alongside(self._download(work, file, meter))
            if downloaded is None:
                return await self._confirm(work)
            media = await self._probe(work, file, upload, downloaded)
            return await self._commit(work, media, upload)

    async def _receive(self, work: Work) -> Ingested:
        """Telegram has the file."""
        meter = Meter()
        async with (
            self._resources.scratch.open(work.job.id, work.job.attempt) as file,
            reporting(work.lease, meter),
            Upload(self._resources.blobs, _key(work.job, ""), file) as upload,
        ):
            await work.lease.update(entering(job_pb2.JOB_STAGE_DOWNLOADING))
            self._resources.ahead.follow(work.job.media.id, file)
            received = await upload.alongside(
                telegram_files.receive(
                    work.identity,
                    file,
                    egress=self._resources.egress,
                    holder=work.job.id,
                    upstream=self._resources.care.proxy_for(work.source.name),
                    settings=self._resources.settings,
                    progress=meter.advance,
                )
            )
            media = await self._probe(work, file, upload, received.downloaded)
            received.describe(media)
            media.ClearField("freshness")
            return await self._commit(work, media, upload)

    async def _download(self, work: Work, file: ScratchFile, meter: Meter) -> Downloaded | None:
        egress = self._resources.egress.issue(
            work.job.id, upstream=self._resources.care.proxy_for(work.source.name)
        )
        try:
            return await download(
                work.identity.url,
                file,
                proxy_url=egress.proxy_url,
                settings=self._resources.settings,
                freshness=work.stored.freshness if work.stored is not None else None,
                progress=meter.advance,
            )
        finally:
            egress.revoke()

    async def _probe(
        self, work: Work, file: ScratchFile, upload: Upload, downloaded: Downloaded
    ) -> Media:
        """Looks into the file while the last parts go up; answers with the media, complete."""
        await work.lease.update(entering(job_pb2.JOB_STAGE_PROBING))
        media = await upload.alongside(self._resources.prober.probe(file.path))
        check_selection(media, work.job.selection)
        await work.lease.update(entering(job_pb2.JOB_STAGE_STORING))
        check_stored(await upload.finish(), downloaded)
        blob_url = self._resources.blobs.url(upload.key)
        describe(media, work.job, work.identity, downloaded, blob_url=blob_url)
        return media

    async def _commit(self, work: Work, media: Media, upload: Upload) -> Ingested:
        await work.lease.update(entering(job_pb2.JOB_STAGE_COMMITTING))
        superseding = work.job.attempt > 1
        return await commit(
            self._resources, media, work.stored, upload, superseding=superseding
        ), False

    async def _confirm(self, work: Work) -> Ingested:
        """Writes down that the source still has what is stored."""
        assert work.stored is not None
        confirmed = Media()
        confirmed.CopyFrom(work.stored)
        confirmed.freshness.validate_time.FromDatetime(datetime.now(UTC))
        await work.lease.update(entering(job_pb2.JOB_STAGE_COMMITTING))
        media = await self._resources.catalog.commit(confirmed, replacing=work.stored.etag)
        return media, media.blob.url == work.stored.blob.url


def _key(job: Job, suffix: str) -> str:
    return f"media/{job.media.id}/{job.id}-{job.attempt}{suffix}"


def _older(media: Media, job: Job) -> bool:
    """Whether the stored copy is older than the caller of `job` takes."""
    if not job.HasField("max_age"):
        return False
    return age(media) > job.max_age.ToTimedelta()
