"""A worker: runs the jobs that are dispatched to it, and recovers lost ones.

A message is a hint, the record is the truth: a message for a job that is leased, has ended or is
gone is dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final, assert_never

from ingot.v1 import reason_pb2
from ingot.v1.job_pb2 import Job, JobWaiting
from ingot.v1.system_service_pb2 import WorkerStatus
from ingot_server.asyncio_tasks import cancel_and_wait
from ingot_server.config import Settings
from ingot_server.cookie_health import CookieHealth
from ingot_server.egress.proxy import EgressProxy
from ingot_server.errors import Failure, reason_name
from ingot_server.event_log import EventLogger, log_context
from ingot_server.extractor.canary import keep_checking
from ingot_server.extractor.pool import ExtractorPool
from ingot_server.extractor.versions import Versions
from ingot_server.garbage_collection import keep_collecting
from ingot_server.intake import Intake
from ingot_server.jobs.attempt_trace import tracing_attempt
from ingot_server.jobs.changes import failed, succeeded
from ingot_server.jobs.dispatch import Dispatcher
from ingot_server.jobs.feed import Feed
from ingot_server.jobs.lease import Lease, hold
from ingot_server.jobs.measurements import count_failed_attempt, measure_worker
from ingot_server.jobs.outcomes import (
    CircularWait,
    Claim,
    Deferred,
    JobCancelled,
    LeaseLost,
)
from ingot_server.jobs.placement import Work, work_of
from ingot_server.jobs.previews import Previews
from ingot_server.jobs.queue import (
    Queue,
    celery_app,
)
from ingot_server.jobs.records import Records
from ingot_server.jobs.sweep import keep_sweeping
from ingot_server.jobs.throttle import SourceThrottle
from ingot_server.jobs.webhook_deliveries import WebhookDeliveries
from ingot_server.jobs.workers import VERSION, Workers, this_worker
from ingot_server.journal.restorer import Restorer
from ingot_server.journal.upkeep import keep_journal_tidy
from ingot_server.library.blobs import Blobs
from ingot_server.library.catalog import Catalog
from ingot_server.library.tenants import TENANT
from ingot_server.library.uploads import Uploads
from ingot_server.log_events import Event
from ingot_server.metrics.definitions import ATTEMPTS_ABANDONED
from ingot_server.outage import Outage
from ingot_server.pipeline.attempt import Expanded, Previewed, Stored
from ingot_server.pipeline.await_job import JobWaiter
from ingot_server.pipeline.ingest import Pipeline
from ingot_server.pipeline.playlist import Playlists
from ingot_server.pipeline.worker_context import WorkerContext
from ingot_server.probe.prober import Prober
from ingot_server.process.confinement import shortcomings
from ingot_server.redis import connect, unavailable
from ingot_server.redis_checks import wait_until_usable
from ingot_server.retention_rules import RetentionRules
from ingot_server.scrub import keep_scrubbing
from ingot_server.source_settings import read_source_settings
from ingot_server.sources import SOURCES
from ingot_server.tracing import scopes
from ingot_server.transcode.ffmpeg import Ffmpeg
from ingot_server.transcode.slots import Slots
from ingot_server.transcode.speculative import SpeculativeTranscoder
from ingot_server.transcode.transcoder import Transcoder
from ingot_server.transfer.scratch import Scratch
from ingot_server.webhooks.deliver import keep_delivering
from ingot_server.webhooks.storage import keep_stored

logger = EventLogger(__name__)

_BACKGROUND_PAUSE_SECONDS: Final = 1.0
_ANNOUNCEMENT: Final = "announcement"
# Redis keeps the limits of sources for a day. They are announced again when it may have lost them.
_LIMITS_SECONDS: Final = 60.0
CANCEL_AGAIN_SECONDS: Final = 1.0
RETIRE_SECONDS: Final = 1.0
# One in so many slots for ingests may be used by a conversion that runs with its workflow.
_SLOTS_PER_CONVERSION: Final = 4
UPLOAD_SWEEP_SECONDS: Final = 300.0
# A string that expires: while it exists, a worker has swept the uploads recently.
UPLOAD_SWEEP: Final = "uploads:swept"
_THROTTLED: Final = [
    source.name for source in SOURCES if not (source.throttled_by_host or source.in_bucket)
]
# What the next attempt waits for, if that is more than its delay.
_CAUSES: Final = {reason_pb2.REASON_SCRATCH_FULL: JobWaiting.CAUSE_SCRATCH_SPACE}


class Worker:
    """What a worker process is made of. `start`, `run_job` and `stop` belong to its event loop.

    One that only converts needs neither the egress proxy nor the extractor.
    """

    def __init__(self, settings: Settings, works: Sequence[Work] = (Work.FETCH,)) -> None:
        """Prepare a worker that runs the jobs of `works`, with slots of their own for each kind."""
        self._settings = settings
        self._slots = slots_of(settings, works)
        self._fetches = Work.FETCH in works
        self._redis = connect(settings)
        self.broker_outage = Outage("The broker") if settings.broker_url else self._redis.outage
        self._records = Records(self._redis, settings)
        self._blobs = Blobs(settings)
        self._restorer = Restorer(self._records.journal, self._blobs)
        self._feed = Feed(self._redis, self._records, settings, restore=self._restorer.ensure)
        self._queue = Queue(celery_app(settings), declares=bool(settings.broker_url))
        self._catalog = Catalog(self._blobs, self._redis, settings)
        self._egress = EgressProxy(settings)
        self._scratch = Scratch(settings)
        self._prober = Prober(settings)
        self._versions = Versions(settings)
        self._extractor = ExtractorPool(
            settings, installed=self._versions.directory_in_use, guard=self._egress
        )
        self._sources = read_source_settings(settings, [source.name for source in SOURCES])
        self._retention = RetentionRules(settings)
        self._throttle = SourceThrottle(self._redis, self._sources, settings)
        self._cookie_health = CookieHealth(self._redis, self._sources)
        intake = Intake(self._catalog, self._blobs, settings)
        self._playlists = Playlists(intake, self._records, self._queue, settings)
        ffmpeg, slots = Ffmpeg(settings), Slots(settings.conversions)
        transcoder = Transcoder(ffmpeg, self._prober, check=self._scratch.check_space)
        capacity = min(settings.conversions, settings.worker_slots // _SLOTS_PER_CONVERSION)
        self._pipeline = Pipeline(
            WorkerContext(
                catalog=self._catalog,
                intake=intake,
                blobs=self._blobs,
                egress=self._egress,
                scratch=self._scratch,
                prober=self._prober,
                extractor=self._extractor,
                throttle=self._throttle,
                cookie_health=self._cookie_health,
                previews=Previews(self._redis, settings),
                job_bytes=self._records.job_bytes,
                playlists=self._playlists,
                job_waiter=JobWaiter(self._records, self._feed, self.run_job, self.run_started_job),
                ffmpeg=ffmpeg,
                transcoder=transcoder,
                slots=slots,
                speculative=SpeculativeTranscoder(
                    transcoder, self._prober, slots, self._scratch, capacity=capacity
                ),
                settings=settings,
            )
        )
        self._workers = Workers(self._redis)
        self._report = WorkerStatus(
            id=this_worker(),
            version=VERSION,
            converts=not self._fetches,
            runs_all_jobs=len(self._slots) == len(Work),
            slots=sum(self._slots.values()),
        )
        self._dispatcher = Dispatcher(self._records.dispatch, self._queue)
        self._background: list[asyncio.Task[None]] = []
        self._running: set[asyncio.Task[Work | None]] = set()
        self._stopping = False

    async def start(self) -> None:
        """Connect, and start the sweeps. Waits for a Redis that does not respond or loads its data.

        Raises Failure if Redis is not what Ingot needs, or if S3 cannot be used.
        """
        await wait_until_usable(self._redis)
        await self._blobs.prepare()
        await self._catalog.start()
        await self._feed.start()
        await self._scratch.start()
        for message in shortcomings():
            logger.warning(Event.CONFINEMENT_INCOMPLETE, "%s See `ingot-server doctor`.", message)
        self._prober.start()
        if self._fetches:
            await self._egress.start()
            await self._extractor.start(self._scratch.make_folder("extractor"))
        self._report.start_time.GetCurrentTime()
        stores = (self._redis, self._catalog, self._blobs, self._settings)
        sweeping = partial(
            keep_sweeping,
            self._records,
            self._dispatcher,
            self._playlists.advance,
            redis_outage=self._redis.outage,
            broker_outage=self.broker_outage,
        )
        self._background = [
            asyncio.create_task(_run_again_if_it_fails(task))
            for task in (
                sweeping,
                partial(self._restorer.keep_restored, self._redis),
                partial(keep_journal_tidy, self._records.journal, self._blobs, self._redis.outage),
                partial(self._workers.keep_reporting, self._measure),
                self._sweep_uploads,
                partial(keep_collecting, *stores, self._retention),
                self._retention.keep_current,
                partial(keep_scrubbing, *stores),
                partial(keep_checking, self._versions, self._settings, self._sources),
            )
        ]
        if self._fetches:
            self._start_fetching()

    def _start_fetching(self) -> None:
        outage, deliveries = self._redis.outage, WebhookDeliveries(self._redis, self._settings)
        for task in (
            partial(keep_delivering, deliveries, self._settings, self._egress, outage),
            partial(keep_stored, deliveries, self._blobs, self._redis),
            self._cookie_health.keep_reporting,
        ):
            self._background.append(asyncio.create_task(_run_again_if_it_fails(task)))

    async def accept_jobs(self) -> None:
        """Announce this worker's slots again and again, so that jobs are dispatched to it."""
        self._background.append(asyncio.create_task(self._keep_announcing()))

    async def stop(self) -> None:
        """Give the running jobs back, which costs them no attempt, and close everything.

        Call it also if `start` failed.
        """
        self._stopping = True
        await self._retire()
        await cancel_and_wait(
            *self._background, *self._running, again_after_seconds=CANCEL_AGAIN_SECONDS
        )
        # Again, because it may have been announced meanwhile.
        await self._retire()
        with contextlib.suppress(Failure):  # Without Redis the report expires.
            await self._workers.remove(self._report.id)
        await self._extractor.close()
        await self._prober.close()
        await self._egress.close()
        await self._scratch.close()
        await self._feed.close()
        await self._queue.close()
        await self._catalog.close()
        await self._blobs.close()
        await self._redis.aclose()

    async def run_dispatched(self, job_id: str) -> None:
        """Run one attempt of a job that was dispatched to this worker, in a slot of its own."""
        work = await self._run(job_id, self._report.id)
        # Its slot is free for another job of that kind.
        await self._dispatcher.run_or_warn(*(self._slots if work is None else (work,)))

    async def run_job(self, job_id: str) -> None:
        """Run one attempt of a job, if the job can be claimed. It takes no slot.

        A worker that is stopping leaves the job to the others.
        """
        await self._run(job_id, "")

    async def run_started_job(self, job_id: str) -> None:
        """Run one attempt of a job like `run_job`; or wait for the one that this worker runs."""
        await self._run(job_id, "")
        here = [task for task in self._running if task.get_name() == _task_name(job_id)]
        if here:
            await asyncio.wait(here)

    async def _run(self, job_id: str, slot_of: str) -> Work | None:
        """Run one attempt; return the job's kind of work, None if the job could not be claimed."""
        if self._stopping:
            return None
        running = self._run_and_advance(job_id, slot_of)
        task = asyncio.create_task(running, name=_task_name(job_id))
        self._running.add(task)
        try:
            return await task
        finally:
            self._running.discard(task)

    def _measure(self) -> WorkerStatus:
        """Return what this worker does now. Runs in a thread."""
        report = self._report
        report.running = len(self._running)
        report.scratch_free_bytes, report.scratch_total_bytes = self._scratch.disk_usage()
        if self._fetches:
            report.extractor_version = self._extractor.version
        measure_worker(report)
        return report

    async def _retire(self) -> None:
        """Leave what was sent to this worker, and its slots, to the others."""
        # Without Redis the announcement expires.
        with contextlib.suppress(Failure, TimeoutError):
            async with asyncio.timeout(RETIRE_SECONDS):
                for work in self._slots:
                    await self._records.dispatch.retire(self._report.id, work)
                await self._dispatcher.run_or_warn(*self._slots)

    async def _keep_announcing(self) -> None:
        interval, loop = self._settings.lease.total_seconds() / 4, asyncio.get_running_loop()
        wakeup, limits_due = self._redis.losses.wakeup(), loop.time()
        while True:
            try:
                for work, slots in self._slots.items():
                    await self._records.dispatch.announce(self._report.id, work, slots)
                if loop.time() >= limits_due:
                    await self._throttle.announce_limits(_THROTTLED)
                    await self._dispatcher.run_or_warn(*self._slots)
                    limits_due = loop.time() + _LIMITS_SECONDS
            except Failure as failure:
                await asyncio.sleep(self._redis.outage.failed(_ANNOUNCEMENT, failure))
            else:
                self._redis.outage.succeeded(_ANNOUNCEMENT)
                if await wakeup.wait(interval):
                    limits_due = loop.time()

    async def _run_and_advance(self, job_id: str, slot_of: str) -> Work | None:
        claim = await self._records.claim(job_id, worker_id=slot_of)
        if claim is not None:
            await self._run_attempt(claim)
        await self._playlists.ended(job_id)
        return None if claim is None else work_of(claim.job)

    async def _run_attempt(self, claim: Claim) -> None:
        TENANT.set(self._settings.cache_sharing.tenant_of(claim.job.requested_by))
        with log_context(job_id=claim.job.id, media_id=claim.job.media.id):
            async with tracing_attempt(self._records, claim):
                await self._hold_and_run(claim)

    async def _hold_and_run(self, claim: Claim) -> None:
        try:
            async with hold(self._records, self._feed, claim) as lease:
                await self._run_leased(claim.job, lease)
        except LeaseLost as lost:
            is_cancelled = isinstance(lost, JobCancelled)
            if not is_cancelled:
                ATTEMPTS_ABANDONED.add()
            scopes.fail("cancelled" if is_cancelled else "lease_lost", str(lost))
            logger.info(
                Event.JOB_ABANDONED,
                "job %s is abandoned: %s",
                claim.job.id,
                lost,
                job_id=claim.job.id,
            )
        except asyncio.CancelledError:
            with contextlib.suppress(LeaseLost):
                await self._records.release(claim.job.id, claim.token, deferred=True)
            raise

    async def _run_leased(self, job: Job, lease: Lease) -> None:
        try:
            result = await self._pipeline.run(job, lease)
        except LeaseLost:
            raise
        except Deferred as deferred:
            await self._defer(job, lease, deferred.waiting)
        except Failure as failure:
            await self._end_attempt(job, lease, failure)
        except Exception:
            # The job must end with an error even if Ingot itself is at fault.
            logger.exception(Event.JOB_DEFECT, "job %s", job.id, job_id=job.id)
            await self._end_attempt(job, lease, _internal_error(job.id))
        else:
            match result:
                case Stored(media, cached):
                    await lease.update(succeeded(media, cached=cached))
                    logger.info(
                        Event.JOB_SUCCEEDED,
                        "job %s stored %s",
                        job.id,
                        lease.job.media.id,
                        job_id=job.id,
                        media_id=lease.job.media.id,
                    )
                case Previewed(media):
                    await lease.update(succeeded(media, cached=False))
                case Expanded():
                    pass  # its children make the media items; it waits without this worker
                case _:
                    assert_never(result)

    async def _defer(self, job: Job, lease: Lease, waiting: JobWaiting) -> None:
        """Release a job that cannot go on now."""
        scopes.note(waiting=JobWaiting.Cause.Name(waiting.cause).removeprefix("CAUSE_"))
        try:
            await lease.release(waiting=waiting, deferred=True)
        except CircularWait:
            failure = Failure(
                reason_pb2.REASON_SOURCE_FAILED,
                f"The page and that of the job {waiting.job_id} each name the other as the "
                "original of their media item. It is extracted again.",
            )
            await self._end_attempt(job, lease, failure)

    async def _end_attempt(self, job: Job, lease: Lease, failure: Failure) -> None:
        """Release a job for its next attempt, or end it with the failure."""
        logger.info(
            Event.ATTEMPT_FAILED,
            "job %s, attempt %d: %s",
            job.id,
            job.attempt,
            reason_name(failure.reason),
            job_id=job.id,
            attempt=job.attempt,
            reason=failure.reason,
        )
        count_failed_attempt(lease.job, failure)
        scopes.fail(reason_name(failure.reason), failure.message)
        if failure.transient and not failure.final and job.attempt < self._settings.attempts:
            backoff: timedelta = self._settings.retry_backoff * 2 ** (job.attempt - 1)
            waiting = JobWaiting(cause=_CAUSES.get(failure.reason, JobWaiting.CAUSE_RETRY))
            waiting.end_time.FromDatetime(datetime.now(UTC) + max(backoff, failure.retry_after))
            await lease.release(waiting=waiting, error=failure.status())
        else:
            await lease.update(failed(failure))

    async def _sweep_uploads(self) -> None:
        """Remove abandoned uploads, in one worker at a time, several times per `upload_ttl`."""
        interval = min(UPLOAD_SWEEP_SECONDS, self._settings.upload_ttl.total_seconds() / 2)
        while True:
            try:
                with unavailable():
                    is_due = await self._redis.set(
                        self._redis.key(UPLOAD_SWEEP),
                        b"",
                        nx=True,
                        px=max(1, int(interval * 900)),
                    )
                if is_due:
                    await Uploads(self._blobs, self._settings).sweep()
            except Failure as failure:
                logger.warning(
                    Event.UPLOAD_SWEEP_FAILED,
                    "uploads: %s: %s",
                    reason_name(failure.reason),
                    failure.message,
                    reason=failure.reason,
                )
            await asyncio.sleep(interval)


async def _run_again_if_it_fails(task: Callable[[], Awaitable[None]]) -> None:
    """Run a task of the worker that must never end because of a defect."""
    while True:
        try:
            return await task()
        except Exception:
            logger.exception(Event.TASK_FAILED, "a task of this worker failed and is started again")
            await asyncio.sleep(_BACKGROUND_PAUSE_SECONDS)


def slots_of(settings: Settings, works: Sequence[Work]) -> dict[Work, int]:
    """Return how many jobs of each kind a worker of these kinds runs at the same time."""
    slots = {Work.FETCH: settings.worker_slots, Work.CONVERT: settings.conversions}
    return {work: slots[work] for work in works}


def _internal_error(job_id: str) -> Failure:
    return Failure(
        reason_pb2.REASON_INTERNAL,
        f"Ingot has a defect. Report it with the job's id {job_id} and the worker's log.",
    )


def _task_name(job_id: str) -> str:
    return f"job {job_id}"
