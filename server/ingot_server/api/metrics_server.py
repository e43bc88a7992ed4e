"""The metrics address: /metrics alone, of a worker or an API server, on a port of its own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, Final

from ingot_server.api import call_head
from ingot_server.api.authentication import Authentication
from ingot_server.api.connect_errors import refuse, refuse_caller
from ingot_server.api.connection_bounds import ConnectionBounds
from ingot_server.api.cors import Cors
from ingot_server.api.hosts import Hosts
from ingot_server.api.http_connection import DEFAULT_LIMITS
from ingot_server.api.http_listener import listen
from ingot_server.api.metrics_report import PATH, SERVICE, MetricsReport
from ingot_server.api.plain_http import say, uvicorn_server, with_headers
from ingot_server.api.request_origin import RequestOrigins
from ingot_server.api.server_certificate import ServerCertificate
from ingot_server.config import Settings
from ingot_server.errors import Failure

_STOP_SECONDS: Final = 0.5


@asynccontextmanager
async def serving_metrics(
    settings: Settings,
    report: MetricsReport,
    authentication: Authentication,
    certificate: ServerCertificate | None,
    *,
    reuse_port: bool = False,
) -> AsyncIterator[str]:
    """Serve `report` on INGOT_METRICS_ADDRESS; yield the address. Port 0 selects a free port.

    Raises SettingError if the address is not available.
    """
    address = settings.metrics_address
    origins = RequestOrigins(Hosts(settings.http_hosts, address), Cors(""))

    async def application(scope: Any, _: Any, send: Any) -> None:
        send = with_headers([], send)
        if refusal := origins.misdirected(scope):
            await refuse(send, refusal.status, refusal.failure)
        elif scope["path"] != PATH:
            await say(send, HTTPStatus.NOT_FOUND, f"Use {PATH}.\n")
        elif failure := await _refusal(scope, authentication):
            await refuse_caller(send, failure)
        else:
            await report.serve(scope, send)

    bounds = ConnectionBounds.of(settings)
    listener = await listen(address, bounds, reuse_port=reuse_port, setting="metrics_address")
    server = uvicorn_server(application, DEFAULT_LIMITS, certificate)
    serving = asyncio.create_task(server.serve([listener]))
    try:
        yield f"{address.rpartition(':')[0]}:{listener.getsockname()[1]}"
    finally:
        server.stop()
        await asyncio.wait({serving}, timeout=_STOP_SECONDS)
        server.force_exit = True
        with contextlib.suppress(asyncio.CancelledError):
            await serving


async def _refusal(scope: Any, authentication: Authentication) -> Failure | None:
    """Return why the caller may not read the metrics; None if it may."""
    headers = [value for name, value in scope["headers"] if name == b"authorization"]
    try:
        await authentication.admit_to(
            SERVICE,
            call_head.peer(scope),
            b", ".join(headers).decode("latin-1"),
            call_head.certificate(scope),
        )
    except Failure as failure:
        return failure
    return None
