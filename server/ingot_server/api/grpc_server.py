"""The gRPC server: services, health, reflection, and a graceful shutdown.

There are no interceptors: one that does nothing slows every call down by 10 to 20 %. Validation,
errors as statuses, and counting are in the functions that serve a call.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any, Final, NoReturn

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from ingot.v1 import reason_pb2
from ingot_server.api.authentication import Authentication
from ingot_server.api.caller import Caller, Serialized, Service
from ingot_server.api.calls import CallBound, Calls, Method, failure_of, methods
from ingot_server.api.connection_bounds import most_grpc_connections
from ingot_server.api.guarded_health import GuardedHealth
from ingot_server.api.reflection import add_reflection
from ingot_server.api.server_certificate import ServerCertificate
from ingot_server.api.status import DETAILS_KEY, grpc_error
from ingot_server.api.store_health import Stores
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.jobs.feed import Feed
from ingot_server.setting_values import SettingError
from ingot_server.tracing.scopes import Protocol

_MOST_PENDING: Final = 100_000
# Twice as many as the calls that a server answers by default: a client that begins more at once,
# before it knows this bound, loses some of them.
_MOST_STREAMS: Final = 20_000
_LEAST_PING_MS: Final = 5_000
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", 4 << 20),
    ("grpc.max_send_message_length", -1),
    # The connection of a client that disappeared is closed within 90 seconds. Clients may ping as
    # often as every 5 seconds, also without a call; who pings more often is disconnected. The
    # default is every 5 minutes.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", _LEAST_PING_MS),
    # Connections that do not begin to speak HTTP/2 are closed. So are those that had no call for a
    # while; clients connect again by themselves.
    ("grpc.server_handshake_timeout_ms", 20_000),
    ("grpc.max_connection_idle_ms", 30 * 60_000),
    # More calls of one connection wait in the client.
    ("grpc.max_concurrent_streams", _MOST_STREAMS),
    # Calls that arrive at once wait here until Python takes them, which is quick. By default gRPC
    # cancels some of them from the 1,000th on, so that their callers cannot tell what happened.
    ("grpc.server.max_pending_requests", _MOST_PENDING),
    ("grpc.server.max_pending_requests_hard_limit", _MOST_PENDING),
)
_SERVING: Final = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING: Final = health_pb2.HealthCheckResponse.NOT_SERVING
# For clients that repeat calls by a policy, https://github.com/grpc/proposal/blob/master/A6-client-retries.md
_PUSHBACK_KEY: Final = "grpc-retry-pushback-ms"
# Time for connections to close by themselves after their last call.
_LINGER_SECONDS: Final = 0.1

Context = grpc.aio.ServicerContext[Message, Message | Serialized]


class ApiServer:
    """The services on one address. It belongs to the running event loop.

    `feed` is closed while draining, which ends all watches. `certificate` is for TLS; None means
    without. `reuse_port` lets several processes share the address.
    """

    def __init__(
        self,
        services: Sequence[Service],
        feed: Feed,
        settings: Settings,
        authentication: Authentication,
        *,
        certificate: ServerCertificate | None = None,
        reuse_port: bool = False,
    ) -> None:
        self._services = services
        self._feed = feed
        self._certificate = certificate
        self._settings = settings
        self._calls = Calls()
        self._authentication = authentication
        self._health = GuardedHealth(self._require_caller)
        self._server = grpc.aio.server(
            options=(
                *_OPTIONS,
                ("grpc.max_allowed_incoming_connections", most_grpc_connections()),
                ("grpc.so_reuseport", int(reuse_port)),
            )
        )
        handlers = _Handlers(self._calls, settings, authentication)
        self._server.add_generic_rpc_handlers([handlers.of(service) for service in services])
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        add_reflection(
            (*(service.descriptor.full_name for service in services), health.SERVICE_NAME),
            self._server,
            self._require_caller,
        )

    async def start(self, address: str | None = None) -> str:
        """Listen on HOST:PORT or unix:PATH, by default that of the settings. Return the address.

        Port 0 selects a free port. Raises SettingError if the address is not available.
        """
        address = address or self._settings.grpc_address
        host, _, port = address.rpartition(":")
        if not host or not (host == "unix" or port.isdecimal()):
            raise SettingError(f"grpc_address={address!r} is not HOST:PORT or unix:PATH.")
        await self.report(Stores.NONE)
        try:
            bound = self._add_port(address)
        except RuntimeError as error:
            raise SettingError(
                f"The server cannot listen on {address}: "
                + (
                    "the path cannot be used"
                    if host == "unix"
                    else f"port {port} is in use, or {host} is not an address of this machine"
                )
                + ". Stop the program that uses it, or set another grpc_address."
            ) from error
        await self._server.start()
        await self.report(Stores.ALL)
        return address if host == "unix" else f"{host}:{bound}"

    def _add_port(self, address: str) -> int:
        # A Unix socket stays on this machine, and gRPC has no TLS for it.
        if self._certificate is None or address.startswith("unix:"):
            return self._server.add_insecure_port(address)
        return self._server.add_secure_port(address, self._certificate.grpc_credentials())

    async def report(self, usable: Stores) -> None:
        """Report for each service whether the stores that it needs can be used.

        The server itself, the empty name, needs all of them.
        """
        needs = {service.descriptor.full_name: service.needs for service in self._services}
        for name, needed in {"": Stores.ALL, **needs}.items():
            status = _SERVING if needed in usable else _NOT_SERVING
            await self._health.set(name, status)

    async def stop(self) -> None:
        """Drain: report NOT_SERVING, end all watches, let calls finish, then cancel the rest.

        Returns within `shutdown_timeout` plus half a second. Safe to call twice.
        """
        await self._health.enter_graceful_shutdown()
        await self._feed.close()
        grace = self._settings.shutdown_timeout.total_seconds()
        stopping = asyncio.create_task(self._server.stop(grace))
        # Streams of health and reflection never end by themselves, so they are not awaited.
        idle = asyncio.create_task(self._calls.idle.wait())
        await asyncio.wait({stopping, idle}, return_when=asyncio.FIRST_COMPLETED)
        idle.cancel()
        await asyncio.wait({stopping}, timeout=_LINGER_SECONDS)
        await self._server.stop(None)
        await stopping

    async def wait(self) -> None:
        """Wait until the server has stopped."""
        await self._server.wait_for_termination()

    async def _require_caller(self, service: str, context: Any) -> None:
        """Abort a call of `health` or `reflection` if its caller may not make it."""
        try:
            authentication = self._authentication
            await authentication.admit_to(
                service,
                context.peer(),
                _authorization(context),
                _certificate(context, authentication),
            )
        except Failure as failure:
            await _abort(context, failure)


class _Handlers:
    """The gRPC handlers of services. Their calls are counted in `calls`."""

    def __init__(self, calls: Calls, settings: Settings, authentication: Authentication) -> None:
        self._calls = calls
        self._bound = CallBound(settings.max_calls)
        self._slow_call = settings.slow_call
        self._authentication = authentication

    def of(self, service: Service) -> grpc.GenericRpcHandler:
        """Return the handler of a service, which finds its methods by name."""
        return grpc.method_handlers_generic_handler(
            service.descriptor.full_name,
            {
                each.descriptor.name: self._handler(each)
                for each in methods(service, self._slow_call)
            },
        )

    def _handler(self, method: Method) -> grpc.RpcMethodHandler[Message, Message | Serialized]:
        if method.descriptor.client_streaming:
            return grpc.stream_unary_rpc_method_handler(
                self._collecting(method), response_serializer=_serialized
            )
        if method.descriptor.server_streaming:
            return grpc.unary_stream_rpc_method_handler(
                self._streaming(method), response_serializer=_serialized
            )
        return grpc.unary_unary_rpc_method_handler(
            self._unary(method), response_serializer=_serialized
        )

    def _unary(self, method: Method) -> Callable[[Serialized, Context], Awaitable[Any]]:
        bound, measured = self._bound.of(method), method.measured

        async def call(request: Serialized, context: Context) -> Any:
            with self._calls:
                try:
                    with measured.call(Protocol.GRPC, context.invocation_metadata):
                        caller = await self._caller(method, context)
                        with bound:
                            return await method.invoke_serialized(request, caller)
                except Exception as error:
                    await _abort(context, failure_of(method.descriptor, error))

        return call

    def _collecting(
        self, method: Method
    ) -> Callable[[AsyncIterable[Serialized], Context], Awaitable[Any]]:
        bound, measured = self._bound.of(method), method.measured

        async def call(requests: AsyncIterable[Serialized], context: Context) -> Any:
            with self._calls:
                try:
                    with measured.call(Protocol.GRPC, context.invocation_metadata):
                        caller = await self._caller(method, context)
                        with bound:
                            whole = _whole(requests, context)
                            return await method.invoke_streaming_serialized(whole, caller)
                except Exception as error:
                    await _abort(context, failure_of(method.descriptor, error))

        return call

    def _streaming(self, method: Method) -> Callable[[Serialized, Context], Awaitable[None]]:
        bound, measured = self._bound.of(method), method.measured

        # With `write`, a hang-up of the caller reaches the service's generator at once. Another
        # generator here would stay suspended until the garbage collector finds it.
        async def call(request: Serialized, context: Context) -> None:
            with self._calls:
                try:
                    with measured.call(Protocol.GRPC, context.invocation_metadata):
                        caller = await self._caller(method, context)
                        with bound:
                            responses = method.invoke_serialized(request, caller)
                            async with aclosing(responses):
                                async for response in responses:
                                    await _write(context, response)
                except Exception as error:
                    await _abort(context, failure_of(method.descriptor, error))

        return call

    def _caller(self, method: Method, context: Context) -> Awaitable[Caller]:
        authentication = self._authentication
        return authentication.admit(
            method.scope,
            context.peer(),
            _authorization(context) if authentication.required else "",
            _certificate(context, authentication),
        )


def _authorization(context: Context) -> str:
    """Return the metadata `authorization`. If it was sent more than once, it is no token."""
    sent = context.invocation_metadata() or ()
    return ", ".join([str(value) for key, value in sent if key == "authorization"])


def _certificate(context: Context, authentication: Authentication) -> str:
    """Return the name in the caller's certificate. Empty without one."""
    certificates = authentication.certificates
    return certificates.name(context.auth_context()) if certificates.required else ""


async def _whole(
    requests: AsyncIterable[Serialized], context: Context
) -> AsyncIterator[Serialized]:
    """Yield the requests up to the caller's last one. Raises CancelledError if the stream broke.

    gRPC ends the iteration in both cases, and cancels the call only later. Nothing can be sent on a
    broken stream, so the attempt to send tells the two cases apart.
    """
    async for request in requests:
        yield request
    try:
        await context.send_initial_metadata(())
    except grpc.aio.InternalError as error:
        raise asyncio.CancelledError from error


async def _write(context: Context, response: Any) -> None:
    """Send a response. Raises CancelledError if the caller's connection is gone.

    gRPC cancels the call only later.
    """
    try:
        await context.write(response)
    except grpc.aio.InternalError as error:
        raise asyncio.CancelledError from error


async def _abort(context: Context, failure: Failure) -> NoReturn:
    code, message, details = grpc_error(failure)
    trailer: tuple[tuple[str, str | bytes], ...] = ((DETAILS_KEY, details),)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        trailer += ((_PUSHBACK_KEY, str(_pushback_ms(failure))),)
    await context.abort(code, message, trailer)


def _pushback_ms(failure: Failure) -> int:
    """Return when gRPC itself may repeat a call; -1 means never.

    A client whose source is asked too often, say, decides by itself when to ask again.
    """
    if failure.reason != reason_pb2.REASON_TOO_MANY_CALLS:
        return -1
    return int(failure.retry_after.total_seconds() * 1000)


def _serialized(response: Message | Serialized) -> Serialized:
    return response if isinstance(response, bytes) else response.SerializeToString()
