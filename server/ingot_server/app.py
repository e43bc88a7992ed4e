"""The API server: builds its objects from the settings and runs them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

from ingot_server.api.admission import Admission
from ingot_server.api.authentication import Authentication
from ingot_server.api.cached_jobs import CachedJobs
from ingot_server.api.call_rates import CallRates
from ingot_server.api.connection_bounds import raise_descriptor_limit
from ingot_server.api.feed_pages import FeedPages
from ingot_server.api.feed_service import FeedService
from ingot_server.api.gateway import Gateway
from ingot_server.api.grpc_server import ApiServer
from ingot_server.api.ingest_service import IngestService
from ingot_server.api.installation import Installation
from ingot_server.api.job_service import JobService
from ingot_server.api.media_service import MediaService
from ingot_server.api.metrics_report import MetricsReport
from ingot_server.api.metrics_server import serving_metrics
from ingot_server.api.open_watches import OpenWatches
from ingot_server.api.preflight import Preflight
from ingot_server.api.quotas import Quotas
from ingot_server.api.retries import Retries
from ingot_server.api.server_certificate import server_certificate
from ingot_server.api.source_service import SourceService
from ingot_server.api.store_health import StoreHealth, Stores
from ingot_server.api.subscription_checks import SubscriptionChecks
from ingot_server.api.subscription_service import SubscriptionService
from ingot_server.api.system_service import SystemService
from ingot_server.api.webhook_service import WebhookService
from ingot_server.asyncio_tasks import cancel_and_wait
from ingot_server.config import Settings
from ingot_server.cookie_health import CookieHealth
from ingot_server.event_log import EventLogger
from ingot_server.following.subscriptions import Subscriptions
from ingot_server.heartbeat import beating
from ingot_server.intake import Intake
from ingot_server.jobs.feed import Feed
from ingot_server.jobs.previews import Previews
from ingot_server.jobs.queue import Queue, celery_app
from ingot_server.jobs.records import Records
from ingot_server.jobs.throttle import SourceThrottle
from ingot_server.jobs.webhook_deliveries import WebhookDeliveries
from ingot_server.jobs.workers import Workers
from ingot_server.journal.writer import JournalWriter
from ingot_server.library.blobs import Blobs
from ingot_server.library.catalog import Catalog
from ingot_server.library.media_list import MediaList
from ingot_server.log_events import Event
from ingot_server.metrics.definitions import share_values
from ingot_server.process.stop_signals import stop_signals
from ingot_server.redis import connect
from ingot_server.redis_checks import wait_until_usable
from ingot_server.source_settings import read_source_settings
from ingot_server.sources import SOURCES
from ingot_server.trace_export import exporting_traces

logger = EventLogger(__name__)


class Addresses(NamedTuple):
    """The addresses that an API server listens on, each HOST:PORT."""

    grpc: str
    http: str
    """Empty if the setting turns it off."""


@contextlib.asynccontextmanager
async def running(
    settings: Settings, *, reuse_port: bool = False, metrics_directory: Path | None = None
) -> AsyncIterator[Addresses]:
    """Run an API server while the context is open. Yields the addresses that it listens on.

    `metrics_directory` has the values of the processes whose metrics it serves with its own. Waits
    for a Redis that does not respond or loads its data. Raises SettingError if an address is not
    available, and Failure if Redis is not what Ingot needs, or if S3 cannot be used.
    """
    async with contextlib.AsyncExitStack() as stack:
        sources = read_source_settings(settings, [source.name for source in SOURCES])
        certificate = server_certificate(settings)
        redis = connect(settings)
        stack.push_async_callback(redis.aclose)
        authentication = Authentication(settings, CallRates(redis))
        await wait_until_usable(redis)
        blobs = Blobs(settings)
        stack.push_async_callback(blobs.close)
        await blobs.prepare()
        catalog = Catalog(blobs, redis, settings)
        await catalog.start()
        stack.push_async_callback(catalog.close)
        records = Records(redis, settings)
        journal = JournalWriter(records.journal, blobs)
        feed = Feed(redis, records, settings, restore=journal.restorer.ensure)
        await feed.start()
        stack.push_async_callback(feed.close)
        queue = Queue(celery_app(settings), declares=bool(settings.broker_url))
        stack.push_async_callback(queue.close)
        preflight = Preflight(catalog, redis, sources, settings)
        stack.push_async_callback(preflight.close)
        intake = Intake(catalog, blobs, settings)
        retries = Retries(catalog, intake, Admission(records, queue, journal))
        stack.push_async_callback(retries.close)
        previews = Previews(redis, settings)
        ingest = IngestService(
            catalog, records, queue, blobs, feed, previews, journal, settings, preflight=preflight
        )
        stack.push_async_callback(ingest.close)
        media_list = MediaList(catalog, blobs, redis)
        building = asyncio.create_task(media_list.keep_index_built())
        restoring = asyncio.create_task(journal.restorer.keep_restored(redis))
        refreshing = asyncio.create_task(authentication.keep_current())
        subscriptions = Subscriptions(redis, blobs)
        checks = SubscriptionChecks(subscriptions, ingest, authentication, redis, settings)
        checking = asyncio.create_task(checks.keep_checking())
        stack.push_async_callback(cancel_and_wait, building, restoring, refreshing, checking)
        throttle = SourceThrottle(redis, sources, settings)
        cookie_health = CookieHealth(redis, sources)
        watches = OpenWatches()
        quotas = Quotas(redis, records, watches)
        installation = Installation(redis, records, Workers(redis), throttle, cookie_health)
        metrics = MetricsReport(installation, metrics_directory)
        media = MediaService(catalog, blobs, media_list)
        services = (
            ingest,
            media,
            JobService(records, CachedJobs(catalog), feed, retries, journal, settings, watches),
            SourceService(throttle, cookie_health, sources, settings),
            WebhookService(WebhookDeliveries(redis, settings), settings),
            SubscriptionService(subscriptions, ingest, settings),
            FeedService(blobs, subscriptions, settings),
            SystemService(installation, redis, quotas, settings),
        )
        server = ApiServer(
            services,
            feed,
            settings,
            authentication,
            certificate=certificate,
            reuse_port=reuse_port,
        )
        gateway = Gateway(
            services,
            settings,
            authentication,
            redis,
            metrics,
            FeedPages(media, catalog, blobs, subscriptions, authentication).serve,
            link_origins=blobs.link_origins(),
            certificate=certificate,
            reuse_port=reuse_port,
        )

        async def stop() -> None:
            # At once, as both wait for running calls within the same time limit.
            await asyncio.gather(server.stop(), gateway.stop())

        stack.push_async_callback(stop)
        if settings.metrics_address:
            serving = serving_metrics(
                settings, metrics, authentication, certificate, reuse_port=reuse_port
            )
            address = await stack.enter_async_context(serving)
            logger.info(Event.SERVING, "serving metrics on %s", address)
        # gRPC is last, because its health check means that everything is ready.
        http = await gateway.start() if settings.http_address else ""
        addresses = Addresses(await server.start(), http)

        async def report(usable: Stores) -> None:
            gateway.report(usable)
            await server.report(usable)

        health = StoreHealth(redis, blobs)
        health.start(report)
        stack.push_async_callback(health.close)
        yield addresses


async def serve(
    settings: Settings, *, reuse_port: bool = False, metrics_file: Path | None = None
) -> None:
    """Run an API server until a signal stops it, then let its calls finish.

    With `metrics_file` it keeps the values of its metrics there, and serves those of all processes
    that have theirs in the same directory.
    """
    if metrics_file is not None:
        share_values(metrics_file)
    directory = metrics_file.parent if metrics_file is not None else None
    raise_descriptor_limit()
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in stop_signals():
        loop.add_signal_handler(number, stopped.set)
    with exporting_traces(settings, "ingot-serve"):
        async with (
            beating(settings, settings.grpc_address),
            running(settings, reuse_port=reuse_port, metrics_directory=directory) as addresses,
        ):
            if addresses.http:
                logger.info(Event.SERVING, "serving HTTP on %s", addresses.http)
            logger.info(Event.SERVING, "serving gRPC on %s", addresses.grpc)
            await stopped.wait()
            logger.info(Event.DRAINING, "draining")
