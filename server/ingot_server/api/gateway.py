"""The API for browsers and plain HTTP clients: in the process of gRPC, on a port of its own.

POST /ingot.v1.SERVICE/METHOD   Connect, gRPC-Web or JSON (connect_services.py); reads also by GET
GET /, /assets/...              the web page (page.py)
GET /openapi.json               the OpenAPI document of these methods
/session                        log in and out of the web page (page_session.py)
GET /healthz                    200 while serving, 503 while draining
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from http import HTTPStatus
from importlib.resources import files
from typing import Any, Final, cast

import uvicorn

from ingot.v1 import reason_pb2
from ingot_server.api import call_head, page_session
from ingot_server.api.authentication import Authentication
from ingot_server.api.caller import Service
from ingot_server.api.calls import CallBound, Calls
from ingot_server.api.connect_errors import refuse, refuse_caller
from ingot_server.api.connect_services import ConnectServices
from ingot_server.api.connection_bounds import ConnectionBounds
from ingot_server.api.cors import Cors, Headers
from ingot_server.api.hosts import Hosts
from ingot_server.api.http_connection import DEFAULT_LIMITS, HttpConnection, TimeLimits
from ingot_server.api.http_listener import listen
from ingot_server.api.page import Page, PageResponse
from ingot_server.api.page_session import Sessions
from ingot_server.api.request_origin import RequestOrigins
from ingot_server.api.server_certificate import ServerCertificate
from ingot_server.api.store_health import Stores
from ingot_server.api.stored_sessions import StoredSessions
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.redis import Redis

# What is served to callers without a credential if the setting open_services names it.
_OPENABLE: Final = {"/healthz": "health", "/openapi.json": "reflection"}
# RFC 6750, section 3. It makes no browser ask for a password.
_CHALLENGE: Final = ((b"www-authenticate", b'Bearer realm="ingot"'),)
# Time to send the last frames of responses.
_LINGER_SECONDS: Final = 0.5


class Gateway:
    """The services on one address, for HTTP/1.1. It belongs to the running event loop.

    `redis` has the sessions of the web page. `link_origins` are the origins of signed links,
    which the web page may reach. `certificate` is for HTTPS; None means HTTP. Raises
    SettingError if `cors_origins` or `http_hosts` cannot be used.
    """

    def __init__(
        self,
        services: Sequence[Service],
        settings: Settings,
        authentication: Authentication,
        redis: Redis,
        *,
        link_origins: Collection[str] = (),
        certificate: ServerCertificate | None = None,
        time_limits: TimeLimits = DEFAULT_LIMITS,
        reuse_port: bool = False,
    ) -> None:
        self._settings = settings
        self._reuse_port = reuse_port
        self._cors = Cors(settings.cors_origins)
        hosts = Hosts(settings.http_hosts, settings.http_address)
        self._origins = RequestOrigins(hosts, self._cors)
        self._calls = Calls()
        bound = CallBound(settings.max_calls)
        self._authentication = authentication
        stored = StoredSessions(redis, settings.page_session_ttl)
        self._sessions = Sessions(authentication, self._origins, stored)
        self._services = ConnectServices(
            services,
            self._calls,
            bound,
            authentication,
            self._sessions.credential,
            self._require_serving,
        )
        self._page = Page(link_origins)
        self._openapi = files(__package__).joinpath("openapi.json").read_bytes()
        self._usable = Stores.ALL
        self._draining = False
        self._serving: asyncio.Task[None] | None = None
        self._server = _Server(
            uvicorn.Config(
                self._serve,
                http=cast("type[asyncio.Protocol]", partial(HttpConnection, time_limits)),
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                log_level="error",
                access_log=False,
                # A caller can write any address into a header. Limits count the real peer.
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=round(time_limits.idle.total_seconds()),
                ssl_context_factory=None
                if certificate is None
                else lambda *_: certificate.http_context(),
            )
        )

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
        self._server.should_exit = True
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
            await self._serve_about_itself(service, scope, self._with([], send))
        elif refusal := self._origins.misdirected(scope):
            await refuse(send, refusal.status, refusal.failure)
        elif path == page_session.PATH:
            await self._sessions.serve(scope, self._with([], send))
        elif service:
            respond = self._with(self._cors.headers(origin), send)
            await self._serve_about_itself(service, scope, respond)
        elif (response := self._page.response(path, headers)) is not None:
            await self._serve_page(verb, response, send)
        elif verb == "OPTIONS" and path in self._services.paths:
            await _say(send, HTTPStatus.NO_CONTENT, "", self._cors.preflight(origin))
        elif path in self._services.paths and (refusal := self._origins.foreign(scope)):
            await refuse(
                self._with(self._cors.headers(origin), send), refusal.status, refusal.failure
            )
        elif not _is_text(scope):
            await refuse(
                self._with(self._cors.headers(origin), send),
                HTTPStatus.BAD_REQUEST,
                Failure(
                    reason_pb2.REASON_INVALID_REQUEST,
                    "The header fields and the query must be UTF-8.",
                ),
            )
        else:
            await self._call(scope, receive, self._with(self._cors.headers(origin), send))

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
            await _refuse_method(send)
        elif self._draining:
            await _say(send, HTTPStatus.SERVICE_UNAVAILABLE, "draining\n")
        elif missing := Stores.ALL & ~self._usable:
            names = " and ".join(str(store.name) for store in missing)
            await _say(send, HTTPStatus.SERVICE_UNAVAILABLE, f"{names} cannot be used\n")
        else:
            await _say(send, HTTPStatus.OK, "serving\n")

    async def _serve_openapi(self, method: str, send: Any) -> None:
        if method not in {"GET", "HEAD"}:
            await _refuse_method(send)
        else:
            await _respond(send, HTTPStatus.OK, self._openapi, b"application/json")

    @staticmethod
    async def _serve_page(method: str, response: PageResponse, send: Any) -> None:
        if method not in {"GET", "HEAD"}:
            await _refuse_method(send)
        else:
            start = {"type": "http.response.start", "status": response.status.value}
            await send({**start, "headers": response.headers})
            await send({"type": "http.response.body", "body": response.body, "more_body": False})

    @staticmethod
    def _with(headers: Headers, send: Any) -> Any:
        """Return a `send` that adds `headers` to the response, and what a 401 must have."""

        async def send_with(message: Any) -> None:
            if message["type"] == "http.response.start":
                challenge = _CHALLENGE if message["status"] == HTTPStatus.UNAUTHORIZED else ()
                message = {**message, "headers": [*message["headers"], *headers, *challenge]}
            await send(message)

        return send_with


class _Server(uvicorn.Server):
    """uvicorn without signal handlers: this process has its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _is_text(scope: Any) -> bool:
    """Return whether the whole head is UTF-8, as connectrpc assumes."""
    try:
        for value in (scope["query_string"], *(value for _, value in scope["headers"])):
            value.decode()
    except UnicodeDecodeError:
        return False
    return True


async def _refuse_method(send: Any) -> None:
    await _say(send, HTTPStatus.METHOD_NOT_ALLOWED, "Use GET.\n", [(b"allow", b"GET, HEAD")])


async def _say(
    send: Any, status: HTTPStatus, text: str, headers: Sequence[tuple[bytes, bytes]] = ()
) -> None:
    await _respond(send, status, text.encode(), b"text/plain; charset=utf-8", headers)


async def _respond(
    send: Any,
    status: HTTPStatus,
    body: bytes,
    content_type: bytes,
    headers: Sequence[tuple[bytes, bytes]] = (),
) -> None:
    length = str(len(body)).encode()
    described = [(b"content-type", content_type), (b"content-length", length)]
    if status == HTTPStatus.NO_CONTENT:
        described = []
    start = {"type": "http.response.start", "status": status.value}
    await send({**start, "headers": [*described, *headers]})
    await send({"type": "http.response.body", "body": body, "more_body": False})
