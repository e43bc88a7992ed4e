"""A worker: takes job ids from the queue, runs jobs, and sends again what was lost.

One asyncio loop runs in a thread of its own; Celery's threads only wait for it, so every store and
every connection exists once in the process. The Celery message is a hint and the record the truth:
a message for a job that is leased, ended or gone is dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import warnings
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from celery import signals
from celery.exceptions import SecurityWarning

from ingot.v1 import job_pb2, reason_pb2
from ingot.v1.job_pb2 import Job
from ingot.v1.media_pb2 import Media
from ingot_server.config import Settings
from ingot_server.egress.proxy import EgressProxy
from ingot_server.errors import Failure, reason_name
from ingot_server.extractor.canary import keep_checking
from ingot_server.extractor.pool import Extractor
from ingot_server.extractor.versions import Versions
from ingot_server.jobs.feed import Feed
from ingot_server.jobs.lease import hold
from ingot_server.jobs.lifecycle import is_conversion
from ingot_server.jobs.queue import (
    CONVERT_QUEUE_NAME,
    QUEUE_NAME,
    TASK_NAME,
    Queue,
    celery_app,
)
from ingot_server.jobs.records import LeaseLost, Records
from ingot_server.jobs.throttle import SourceThrottle
from ingot_server.jobs.transition import unavailable
from ingot_server.library.blobs import Blobs
from ingot_server.library.catalog import Catalog
from ingot_server.library.uploads import Uploads
from ingot_server.pipeline.await_job import JobWaiter
from ingot_server.pipeline.ingest import Pipeline
from ingot_server.pipeline.playlist import Playlists
from ingot_server.pipeline.worker_context import WorkerContext
from ingot_server.probe.prober import Prober
from ingot_server.process.allocator import return_large_buffers
from ingot_server.redis import connect
from ingot_server.source_settings import read_source_settings
from ingot_server.sources import SOURCES
from ingot_server.transcode.ffmpeg import Ffmpeg
from ingot_server.transcode.slots import Slots
from ingot_server.transcode.speculative import SpeculativeTranscoder
from ingot_server.transfer.scratch import Scratch

logger = logging.getLogger(__name__)

SWEEP_SECONDS: Final = 1.0
SWEEP_BATCH: Final = 100
CANCEL_AGAIN_SECONDS: Final = 1.0
# Each conversion that runs with its workflow holds one slot of those that ingests have.
_SLOTS_A_PLACE: Final = 4
UPLOAD_SWEEP_SECONDS: Final = 300.0
# A string that expires: a worker has looked for abandoned uploads lately.
UPLOAD_SWEEP_KEY: Final = "ingot:uploads:swept"


class Worker:
    """Runs jobs on one event loop. `start`, `run` and `stop` belong to that loop.

    One that `converts` takes conversions and nothing else.
    """

    def __init__(self, settings: Settings, *, converts: bool = False) -> None:
        self._settings = settings
        self._converts = converts
        self._redis = connect(settings)
        self._records = Records(self._redis, settings)
        self._feed = Feed(self._redis, self._records, settings)
        self._queue = Queue(celery_app(settings))
        self._blobs = Blobs(settings)
        self._catalog = Catalog(self._blobs, self._redis, settings)
        self._egress = EgressProxy(settings)
        self._scratch = Scratch(settings)
        self._prober = Prober(settings)
        self._versions = Versions(settings)
        self._extractor = Extractor(settings, installed=self._versions.place)
        self._sources = read_source_settings(settings, [source.name for source in SOURCES])
        self._playlists = Playlists(self._catalog, self._records, self._queue, settings)
        ffmpeg, slots = Ffmpeg(settings), Slots(settings.conversions)
        places = min(settings.conversions, settings.worker_slots // _SLOTS_A_PLACE)
        self._pipeline = Pipeline(
            WorkerContext(
                catalog=self._catalog,
                blobs=self._blobs,
                egress=self._egress,
                scratch=self._scratch,
                prober=self._prober,
                extractor=self._extractor,
                throttle=SourceThrottle(self._redis, self._sources, settings),
                playlists=self._playlists,
                job_waiter=JobWaiter(self._records, self._feed, self.run),
                ffmpeg=ffmpeg,
                slots=slots,
                speculative=SpeculativeTranscoder(
                    ffmpeg, self._prober, slots, self._scratch, places=places
                ),
                settings=settings,
            )
        )
        self._running: set[asyncio.Task[None]] = set()
        self._stopping = False

    async def start(self) -> None:
        """Connects, and begins to sweep. Raises Failure when a store cannot be used."""
        await self._blobs.prepare()
        await self._catalog.start()
        await self._feed.start()
        await self._scratch.start()
        await self._prober.start()
        if not self._converts:
            await self._egress.start()
            await self._extractor.start(self._scratch.keep("extractor"))
        self._sweeper = asyncio.create_task(self._sweep())
        self._upload_sweeper = asyncio.create_task(self._sweep_uploads())
        self._checker = asyncio.create_task(
            keep_checking(self._versions, self._settings, self._sources)
        )

    async def stop(self) -> None:
        """Gives running jobs back to the queue and closes everything."""
        self._stopping = True
        ending = {self._sweeper, self._upload_sweeper, self._checker, *self._running}
        while ending:
            for task in ending:
                task.cancel()
            # Before Python 3.12 asyncio.wait_for, which redis-py uses, may lose a cancellation.
            _, ending = await asyncio.wait(ending, timeout=CANCEL_AGAIN_SECONDS)
        await self._extractor.close()
        await self._prober.close()
        await self._egress.close()
        await self._scratch.close()
        await self._feed.close()
        await self._queue.close()
        await self._catalog.close()
        await self._blobs.close()
        await self._redis.aclose()

    async def run(self, job_id: str) -> None:
        """Runs a job to its end, or to its next attempt, if it is free to be taken.

        Once the worker stops it is left to the others.
        """
        if self._stopping:
            return
        task = asyncio.create_task(self._run(job_id))
        self._running.add(task)
        try:
            await task
        finally:
            self._running.discard(task)

    async def _run(self, job_id: str) -> None:
        await self._attempt(job_id)
        await self._playlists.ended(job_id)

    async def _attempt(self, job_id: str) -> None:
        claimed = await self._records.claim(job_id)
        if claimed is None:
            return
        job, token = claimed
        try:
            async with hold(self._records, self._feed, job, token) as lease:
                try:
                    ingested = await self._pipeline.run(job, lease)
                except Failure as failed:
                    failure = failed
                except Exception:
                    # A job ends with an error even where Ingot itself is at fault.
                    logger.exception("job %s", job_id)
                    failure = Failure(
                        reason_pb2.REASON_INTERNAL,
                        f"Ingot has a defect; report it with the job's id {job_id}.",
                    )
                else:
                    # None: its children make it, and it waits for them without this worker.
                    if ingested is not None:
                        await lease.update(_succeeded(*ingested))
                        logger.info("job %s stored %s", job_id, lease.job.media.id)
                    return
                name = reason_name(failure.reason)
                logger.info("job %s, attempt %d: %s", job_id, job.attempt, name)
                if failure.deferred:
                    await lease.release(
                        retry_time=datetime.now(UTC) + failure.retry_after,
                        error=failure.status(),
                        deferred=True,
                    )
                elif (
                    failure.transient
                    and not failure.final
                    and job.attempt < self._settings.attempts
                ):
                    retry_time = datetime.now(UTC) + self._backoff(job.attempt, failure)
                    await lease.release(retry_time=retry_time, error=failure.status())
                else:
                    await lease.update(_failed(failure))
        except LeaseLost as lost:
            logger.info("job %s left: %s", job_id, lost)
        except asyncio.CancelledError:
            with contextlib.suppress(LeaseLost):
                await self._records.release(job_id, token, retry_time=None, error=None)
            raise

    def _backoff(self, attempt: int, failure: Failure) -> timedelta:
        backoff: timedelta = self._settings.retry_backoff * 2 ** (attempt - 1)
        return max(backoff, failure.retry_after)

    async def _sweep(self) -> None:
        """Sends again, for good, what no worker has: lost messages, lost workers, due retries."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            try:
                for job_id in await self._records.overdue(SWEEP_BATCH):
                    await self._look_after(job_id)
            except Failure as failure:
                logger.warning("sweep: %s: %s", reason_name(failure.reason), failure.message)

    async def _look_after(self, job_id: str) -> None:
        try:
            job = await self._records.recover(job_id)
            if job is None:
                return
            if job.state == job_pb2.JOB_STATE_RUNNING:
                await self._playlists.advance(job.id)
            else:
                await self._queue.send(job.id, conversion=is_conversion(job))
        except Failure:
            raise
        except Exception:
            # One record that cannot be read must not leave all other jobs without care.
            logger.exception("job %s", job_id)

    async def _sweep_uploads(self) -> None:
        """Removes abandoned uploads: one worker looks, a few times within their time to live."""
        interval = min(UPLOAD_SWEEP_SECONDS, self._settings.upload_ttl.total_seconds() / 2)
        while True:
            try:
                with unavailable():
                    is_turn = await self._redis.set(
                        UPLOAD_SWEEP_KEY, b"", nx=True, px=max(1, int(interval * 900))
                    )
                if is_turn:
                    await Uploads(self._blobs, self._settings).sweep()
            except Failure as failure:
                logger.warning("uploads: %s: %s", reason_name(failure.reason), failure.message)
            await asyncio.sleep(interval)


def _succeeded(media: Media, cached: bool) -> Callable[[Job], None]:
    def mutate(job: Job) -> None:
        job.state = job_pb2.JOB_STATE_SUCCEEDED
        job.cached = cached
        job.media.CopyFrom(media)
        job.ClearField("error")

    return mutate


def _failed(failure: Failure) -> Callable[[Job], None]:
    def mutate(job: Job) -> None:
        job.state = job_pb2.JOB_STATE_FAILED
        job.error.CopyFrom(failure.status())

    return mutate


def main(settings: Settings, *, converts: bool = False) -> None:
    """Runs a worker until SIGTERM or SIGINT; its running jobs then go back to the queue.

    One that `converts` takes conversions and nothing else; any other takes all but those.

    Raises Failure when Redis or S3 cannot be used at start-up.
    """
    return_large_buffers()
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="event loop", daemon=True).start()

    def on_loop(work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, loop).result()

    worker = Worker(settings, converts=converts)
    slots = settings.conversions if converts else settings.worker_slots
    on_loop(worker.start())
    app = celery_app(settings)

    @app.task(name=TASK_NAME)
    def run_job(job_id: str) -> None:
        on_loop(worker.run(job_id))

    # Celery waits for its running tasks before it ends; this is what makes them end.
    def stop(**_: object) -> None:
        asyncio.run_coroutine_threadsafe(worker.stop(), loop)

    def ready(**_: object) -> None:
        logger.info("taking %s, %d at once", "conversions" if converts else "jobs", slots)

    def leave_logging(**_: object) -> None:
        # Connected, this keeps Celery from setting the level of everybody's log.
        logging.getLogger("celery").setLevel(logging.WARNING)

    signals.setup_logging.connect(leave_logging)
    signals.worker_ready.connect(ready)
    signals.worker_shutting_down.connect(stop)
    # Celery warns root of messages that are code; ours are job ids in JSON.
    warnings.simplefilter("ignore", SecurityWarning)
    app.worker_main(
        [
            "--quiet",
            "worker",
            "--pool=threads",
            f"--concurrency={slots}",
            f"--queues={CONVERT_QUEUE_NAME if converts else QUEUE_NAME}",
            "--without-gossip",
            "--without-mingle",
            "--without-heartbeat",
        ]
    )
