"""The metrics address of a worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ingot_server.api.authentication import Authentication
from ingot_server.api.metrics_report import MetricsReport
from ingot_server.api.metrics_server import serving_metrics
from ingot_server.api.server_certificate import server_certificate
from ingot_server.asyncio_tasks import cancel_and_wait
from ingot_server.config import Settings


@asynccontextmanager
async def serving_worker_metrics(settings: Settings) -> AsyncIterator[str]:
    """Serve the metrics of this worker; yield the address.

    Who may read them is decided as on an API server. Raises SettingError if a setting cannot be
    used.
    """
    authentication = Authentication(settings)
    following = asyncio.create_task(authentication.keep_current())
    try:
        serving = serving_metrics(
            settings, MetricsReport(), authentication, server_certificate(settings)
        )
        async with serving as address:
            yield address
    finally:
        await cancel_and_wait(following)
