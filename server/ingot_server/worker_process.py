"""A worker as a process: Celery receives job ids from the queue, and a `Worker` runs the jobs.

One asyncio loop runs in its own thread, and Celery's threads only wait for it. So every store and
every connection exists once in the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import warnings
from collections.abc import Coroutine, Sequence
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Any, Final

from celery import Celery, signals
from celery.exceptions import SecurityWarning

from ingot_server.celery_worker import CeleryWorker
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.event_log import EventLogger
from ingot_server.heartbeat import beating
from ingot_server.jobs.placement import Work
from ingot_server.jobs.queue import TASK_NAME, celery_app, queue_name
from ingot_server.jobs.workers import this_worker
from ingot_server.log_events import Event
from ingot_server.metrics.definitions import share_values
from ingot_server.process.allocator import return_large_buffers
from ingot_server.trace_export import exporting_traces
from ingot_server.worker import Worker, slots_of

logger = EventLogger(__name__)

# Without Redis a stop takes about this long; whoever waits for it kills it a little later.
_STOP_SECONDS: Final = 5.0
_PLURALS: Final = {Work.FETCH: "jobs", Work.CONVERT: "conversions"}


class WorkerProcess:
    """A worker's event loop in its own thread, and what Celery calls from its threads."""

    def __init__(self, settings: Settings, works: Sequence[Work]) -> None:
        self._loop = asyncio.new_event_loop()
        self._settings = settings
        self._heartbeat = contextlib.AsyncExitStack()
        self._worker = Worker(settings, works)
        self._slots = slots_of(settings, works)
        self._stopping: Future[None] | None = None
        self._settings = settings
        self._serving_metrics = contextlib.AsyncExitStack()

    def start(self) -> None:
        """Start the loop, the worker, and its metrics address if there is one.

        Raises SettingError for a heartbeat file that cannot be written and a metrics address that
        is not available, and Failure as `Worker.start` does.
        """
        threading.Thread(target=self._loop.run_forever, name="event loop", daemon=True).start()
        self._wait_for(self._heartbeat.enter_async_context(beating(self._settings)))
        self._wait_for(self._worker.start())
        if self._settings.metrics_address:
            self._wait_for(self._serve_metrics())

    def run_celery(self, app: Celery) -> int:
        """Run Celery until a signal stops it, and return the exit code; 0 only after a signal."""
        app.task(name=TASK_NAME, typing=False)(self._run_job)
        signals.setup_logging.connect(_keep_logging)
        signals.worker_ready.connect(self._begin)
        # Celery warns root about messages that contain code; ours are job ids in JSON.
        warnings.simplefilter("ignore", SecurityWarning)
        worker = CeleryWorker(
            app,
            queue_name(this_worker()),
            # A job that gave up its slot may still run for a while: a cancelled one cleans up, and
            # a workflow converts what it has fetched.
            threads=2 * sum(self._slots.values()),
            outage=self._worker.broker_outage,
            on_stop=self._stop,
        )
        worker.start()
        self._wait_until_stopped()
        if worker.was_stopped:
            return worker.exitcode or 0
        logger.error(Event.CELERY_ENDED, "Celery ended although no signal had stopped it")
        return worker.exitcode or 1

    def _run_job(self, job_id: str) -> None:
        # The sweep recovers a job that could not be claimed, and one that is given back.
        with contextlib.suppress(Failure, CancelledError):
            self._wait_for(self._worker.run_dispatched(job_id))

    def _begin(self, **_: object) -> None:
        self._wait_for(self._worker.accept_jobs())
        slots = (f"{count} {_PLURALS[work]}" for work, count in self._slots.items())
        logger.info(Event.WORKER_READY, "ready for %s at the same time", " and ".join(slots))

    def _stop(self) -> None:
        # Celery waits for its running tasks before it ends; this makes them end.
        self._stopping = asyncio.run_coroutine_threadsafe(self._close(), self._loop)

    async def _close(self) -> None:
        await self._worker.stop()
        await self._serving_metrics.aclose()

    async def _serve_metrics(self) -> None:
        # Only now: other workers have no use for an HTTP server.
        from ingot_server.api.worker_metrics import serving_worker_metrics

        serving = serving_worker_metrics(self._settings)
        address = await self._serving_metrics.enter_async_context(serving)
        logger.info(Event.SERVING, "serving metrics on %s", address)

    def _wait_until_stopped(self) -> None:
        """Let the worker give everything back: without running tasks Celery ends before that."""
        if self._stopping is not None:
            with contextlib.suppress(CancelledError, TimeoutError):
                self._stopping.result(_STOP_SECONDS)

    def _wait_for(self, coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()


def _keep_logging(**_: object) -> None:
    # While this is connected, Celery does not set the level of the root logger.
    logging.getLogger("celery").setLevel(logging.WARNING)
    # It warns about each lost connection, of which `Outage` has told already.
    logging.getLogger("celery.worker.consumer.consumer").setLevel(logging.ERROR)


def main(
    settings: Settings, works: Sequence[Work] = (Work.FETCH,), metrics_file: Path | None = None
) -> int:
    """Run a worker until a signal stops it; then its running jobs go back to the queue.

    It runs the jobs of `works`. With `metrics_file` it keeps the values of its metrics there, for
    the server that serves them. Returns the exit code, which is not 0 unless a signal stopped it.

    Raises Failure and SettingError as `WorkerProcess.start` does.
    """
    return_large_buffers()
    if metrics_file is not None:
        share_values(metrics_file)
    process = WorkerProcess(settings, works)
    with exporting_traces(settings, "ingot-worker"):
        process.start()
        return process.run_celery(celery_app(settings, this_worker()))
