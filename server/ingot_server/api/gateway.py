"""The API for browsers and plain HTTP clients: in the process of gRPC, on a port of its own.

POST /ingot.v1.SERVICE/METHOD   Connect, gRPC-Web or JSON (connect_services.py); reads also by GET
GET /, /assets/...              the web page (page.py)
GET /openapi.json               the OpenAPI document of these methods
/session                        log in and out of the web page (page_session.py)
GET /feeds/...                  podcast feeds (feed_pages.py)
GET /metrics                    what Prometheus reads (metrics_report.py)
GET /healthz                    200 while serving, 503 while draining
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Collection, Sequence
from http import HTTPStatus
from importlib.resources import files
from typing import Any, Final

from ingot.v1 import reason_pb2
from ingot_server.api import call_head, feed_pages, metrics_report, page_session
from ingot_server.api.authentication import Authentication
from ingot_server.api.caller import Service
from ingot_server.api.calls import Calls
from ingot_server.api.connect_errors import refuse, refuse_caller
from ingot_server.api.connect_services import ConnectServices
from ingot_server.api.connection_bounds import ConnectionBounds
from ingot_server.api.cors import Cors
from ingot_server.api.hosts import Hosts
from ingot_server.api.http_connection import DEFAULT_LIMITS, TimeLimits
from ingot_server.api.http_listener import listen
from ingot_server.api.metrics_report import MetricsReport
from ingot_server.api.page import Page, PageResponse
from ingot_server.api.page_session import Sessions
from ingot_server.api.plain_http import (
    refuse_method,
    respond,
    say,
    uvicorn_server,
    with_headers,
)
from ingot_server.api.request_origin import RequestOrigins
from ingot_server.api.server_certificate import ServerCertificate
from ingot_server.api.store_health import Stores
from ingot_server.api.stored_sessions import StoredSessions
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.redis import Redis

# What is served to callers without a credential if the setting open_services names it.
_OPENABLE: Final = {
    "/healthz": "health",
    "/openapi.json": "reflection",
    metrics_report.PATH: metrics_report.SERVICE,
}
# Time to send the last frames of responses.
_LINGER_SECONDS: Final = 0.5


class Gateway:
    """The services on one address, for HTTP/1.1. It belongs to the running event loop.

    `redis` has the sessions of the web page, and `metrics` is served to who may call GetSystem.
    `serve_feed` responds to requests for podcast feeds (`FeedPages.serve`).
    `link_origins` are the origins of signed links, which the web page may reach. `certificate` is
    for HTTPS; None means HTTP. Raises SettingError if `cors_origins` or `http_hosts` cannot be
    used.
    """

    def __init__(
        self,
        services: Sequence[Service],
        settings: Settings,
        authentication: Authentication,
        redis: Redis,
        metrics: MetricsReport,
        serve_feed: Callable[[Any, Any], Awaitable[None]],
        *,
        link_origins: Collection[str] = (),
        certificate: ServerCertificate | None = None,
        time_limits: TimeLimits = DEFAULT_LIMITS,
        reuse_port: bool = False,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._serve_feed = serve_feed
        self._reuse_port = reuse_port
        self._cors = Cors(settings.cors_origins)
        hosts = Hosts(settings.http_hosts, settings.http_address)
        self._origins = RequestOrigins(hosts, self._cors)
        self._calls = Calls()
        self._authentication = authentication
        stored = StoredSessions(redis, settings.page_session_ttl)
        self._sessions = Sessions(authentication, self._origins, stored)
        self._services = ConnectServices(
            services,
            self._calls,
            settings,
            authentication,
            self._sessions.credential,
            self._require_serving,
        )
        self._page = Page(link_origins)
        self._openapi = files(__package__).joinpath("openapi.json").read_bytes()
        self._usable = Stores.ALL
        self._draining = False
        self._serving: asyncio.Task[None] | None = None
        self._server = uvicorn_server(self._serve, time_limits, certificate)

    async def start(self) -> str:
        """Listen on the settings' HOST:PORT. Return the address.

        Port 0 selects a free port. Raises SettingError if the address is not available.
        """
        listener = await listen(
            self._settings.http_address,
            ConnectionBounds.of(self._settings),
            reuse_port=self._reuse_port,
        )
        host = self._settings.http_address.rpartition(":")[0]
        self._serving = asyncio.create_task(self._server.serve([listener]))
        return f"{host}:{listener.getsockname()[1]}"

    def report(self, usable: Stores) -> None:
        """Report at /healthz whether the stores can be used."""
        self._usable = usable

    async def stop(self) -> None:
        """Drain: refuse new calls, let running ones finish, then cancel them.

        Watches end when ApiServer.stop closes their feed, so run both at once. Returns within
        `shutdown_timeout` plus half a second. Safe to call twice.
        """
        self._draining = True
        if self._serving is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.shutdown_timeout.total_seconds()):
                await self._calls.idle.wait()
        state = self._server.server_state
        if not self._calls.idle.is_set():
            for task in state.tasks:
                task.cancel()
        self._server.stop()
        await asyncio.wait({self._serving}, timeout=_LINGER_SECONDS)
        # The connections that are still open belong to clients that do not read.
        self._server.force_exit = True
        for connection in list(state.connections):
            connection.transport.abort()
        await self._serving

    def _require_serving(self) -> None:
        if self._draining:
            raise Failure(
                reason_pb2.REASON_SHUTTING_DOWN,
                "This server is shutting down. Try again: another server takes the call.",
            )

    async def _serve(self, scope: Any, receive: Any, send: Any) -> None:
        """The ASGI application."""
        headers = dict(scope["headers"])
        origin = headers.get(b"origin", b"").decode("latin-1")
        path, verb = scope["path"], scope["method"]
        service = _OPENABLE.get(path)
        if service == "health":
            # Also for a load balancer that checks this server under a name of its own.
            await self._serve_about_itself(service, scope, with_headers([], send))
        elif refusal := self._origins.misdirected(scope):
            await refuse(send, refusal.status, refusal.failure)
        elif path == page_session.PATH:
            await self._sessions.serve(scope, with_headers([], send))
        elif path.startswith(feed_pages.PATH):
            await self._serve_feed(scope, with_headers([], send))
        elif service:
            respond = with_headers(self._cors.headers(origin), send)
            await self._serve_about_itself(service, scope, respond)
        elif (response := self._page.response(path, headers)) is not None:
            await self._serve_page(verb, response, send)
        elif verb == "OPTIONS" and path in self._services.paths:
            await say(send, HTTPStatus.NO_CONTENT, "", self._cors.preflight(origin))
        elif path in self._services.paths and (refusal := self._origins.foreign(scope)):
            await refuse(
                with_headers(self._cors.headers(origin), send), refusal.status, refusal.failure
            )
        elif not _is_text(scope):
            await refuse(
                with_headers(self._cors.headers(origin), send),
                HTTPStatus.BAD_REQUEST,
                Failure(
                    reason_pb2.REASON_INVALID_REQUEST,
                    "The header fields and the query must be UTF-8.",
                ),
            )
        else:
            await self._call(scope, receive, with_headers(self._cors.headers(origin), send))

    async def _serve_about_itself(self, service: str, scope: Any, send: Any) -> None:
        """Serve what corresponds to a service of gRPC that open_services can name."""
        try:
            authorization = await self._sessions.credential(scope)
            await self._authentication.admit_to(
                service, call_head.peer(scope), authorization, call_head.certificate(scope)
            )
        except Failure as failure:
            await refuse_caller(send, failure)
            return
        if service == "health":
            await self._serve_health(scope["method"], send)
        elif service == metrics_report.SERVICE:
            await self._metrics.serve(scope, send)
        else:
            await self._serve_openapi(scope["method"], send)

    async def _call(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await self._services(scope, receive, send)
        except asyncio.CancelledError:
            # Cancelled by `stop`, after a response. uvicorn would report it as a defect.
            if not self._draining:
                raise

    async def _serve_health(self, method: str, send: Any) -> None:
        if method not in {"GET", "HEAD"}:
            await refuse_method(send)
        elif self._draining:
            await say(send, HTTPStatus.SERVICE_UNAVAILABLE, "draining\n")
        elif missing := Stores.ALL & ~self._usable:
            names = " and ".join(str(store.name) for store in missing)
            await say(send, HTTPStatus.SERVICE_UNAVAILABLE, f"{names} cannot be used\n")
        else:
            await say(send, HTTPStatus.OK, "serving\n")

    async def _serve_openapi(self, method: str, send: Any) -> None:
        if method not in {"GET", "HEAD"}:
            await refuse_method(send)
        else:
            await respond(send, HTTPStatus.OK, self._openapi, b"application/json")

    @staticmethod
    async def _serve_page(method: str, response: PageResponse, send: Any) -> None:
        if method not in {"GET", "HEAD"}:
            await refuse_method(send)
        else:
            start = {"type": "http.response.start", "status": response.status.value}
            await send({**start, "headers": response.headers})
            await send({"type": "http.response.body", "body": response.body, "more_body": False})


def _is_text(scope: Any) -> bool:
    """Return whether the whole head is UTF-8, as connectrpc assumes."""
    try:
        for value in (scope["query_string"], *(value for _, value in scope["headers"])):
            value.decode()
    except UnicodeDecodeError:
        return False
    return True
