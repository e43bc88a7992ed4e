"""The services over the Connect protocol, gRPC-Web and plain JSON, built from their descriptors.

`connectrpc` implements the protocols.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing
from contextvars import ContextVar
from typing import Any, Final

from connectrpc.code import Code
from connectrpc.errors import ConnectError
from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType
from connectrpc.request import RequestContext
from connectrpc.server import ConnectASGIApplication, Endpoint
from google.protobuf.descriptor_pb2 import MethodOptions
from google.protobuf.message import Message

from ingot.v1 import reason_pb2
from ingot_server.api import call_head
from ingot_server.api.authentication import Authentication
from ingot_server.api.caller import Caller, Service
from ingot_server.api.calls import CallBound, Calls, Method, failure_of, methods
from ingot_server.api.connect_codecs import BinaryCodec, JsonCodec, Response
from ingot_server.api.connect_errors import (
    REQUEST_BYTES,
    CallError,
    Translation,
    failure_of_protocol,
    refuse,
    refused,
)
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.tracing.scopes import Protocol

_IDEMPOTENCY: Final = {
    MethodOptions.IDEMPOTENCY_UNKNOWN: IdempotencyLevel.UNKNOWN,
    MethodOptions.NO_SIDE_EFFECTS: IdempotencyLevel.NO_SIDE_EFFECTS,
    MethodOptions.IDEMPOTENT: IdempotencyLevel.IDEMPOTENT,
}

Context = RequestContext[Message, Response]

_caller: ContextVar[Caller] = ContextVar("_caller")


class ConnectServices(ConnectASGIApplication[tuple[Service, ...]]):
    """An ASGI application that serves /SERVICE/METHOD by POST, and reads also by GET.

    Its calls are counted in `calls`. `credential` returns what authenticates a
    request, as the value of a header Authorization. `require_serving` is called before each
    one and may raise Failure.
    """

    path = "/"

    def __init__(
        self,
        services: Iterable[Service],
        calls: Calls,
        settings: Settings,
        authentication: Authentication,
        credential: Callable[[Any], Awaitable[str]],
        require_serving: Callable[[], None],
    ) -> None:
        self._calls = calls
        self._bound = CallBound(settings.max_calls)
        self._authentication = authentication
        self._credential = credential
        self._require_serving = require_serving
        found = {
            f"/{method.descriptor.containing_service.full_name}/{method.descriptor.name}": method
            for service in services
            for method in methods(service, settings.slow_call)
        }
        self.paths = frozenset(found)
        self._methods = found
        super().__init__(
            service=tuple(services),
            endpoints=lambda _: {path: self._endpoint(method) for path, method in found.items()},
            read_max_bytes=REQUEST_BYTES,
            codecs=(BinaryCodec(), JsonCodec()),
            interceptors=(Translation(),),
            # Compression would run on the event loop, also for video. A proxy in front can do it.
            compressions=(),
        )

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        method = self._methods.get(scope["path"])
        if method is None:
            unknown = call_head.unknown_path(scope["path"], self.paths)
            await refuse(send, unknown.status, unknown.failure)
            return
        if (refusal := call_head.not_a_call(scope, method.descriptor)) is not None:
            await refuse(send, refusal.status, refusal.failure, refusal.headers)
            return
        scope, failure = call_head.checked(scope)
        # Before the body is received: it may be large, and of anyone.
        refused.set(failure or await self._refusal_of_caller(method, scope))
        await super().__call__(scope, receive, send)

    async def _refusal_of_caller(self, method: Method, scope: Any) -> Failure | None:
        """Return why the caller may not call the method. None: it may, and is `_caller` now."""
        began = time.perf_counter()
        try:
            authorization = await self._credential(scope)
            peer = call_head.peer(scope)
            certificate = call_head.certificate(scope)
            caller = await self._authentication.admit(
                method.scope, peer, authorization, certificate
            )
            _caller.set(caller)
        except Failure as failure:
            method.measured.ended(failure, time.perf_counter() - began)
            return failure
        return None

    def _endpoint(self, method: Method) -> Any:
        descriptor = method.descriptor
        if descriptor.client_streaming:
            kind = StreamType.CLIENT_STREAM
        elif descriptor.server_streaming:
            kind = StreamType.SERVER_STREAM
        else:
            kind = StreamType.UNARY
        info = MethodInfo(
            name=descriptor.name,
            service_name=descriptor.containing_service.full_name,
            input=method.request_class,
            output=Response,
            idempotency_level=_IDEMPOTENCY[descriptor.GetOptions().idempotency_level],
            stream_type=kind,
        )
        if descriptor.client_streaming:
            return Endpoint.client_stream(info, self._collecting(method))
        if descriptor.server_streaming:
            return Endpoint.server_stream(info, self._streaming(method))
        return Endpoint.unary(info, self._unary(method))

    def _unary(self, method: Method) -> Callable[[Message, Context], Awaitable[Response]]:
        bound, measured = self._bound.of(method), method.measured

        async def call(request: Message, context: Context) -> Response:
            with self._calls:
                try:
                    with measured.call(Protocol.CONNECT, context.request_headers.allitems):
                        self._require_serving()
                        with bound:
                            response = await method.invoke(request, _caller.get())
                            return Response(method.response_class, response)
                except Exception as error:
                    raise CallError(failure_of(method.descriptor, error)) from error

        return call

    def _collecting(
        self, method: Method
    ) -> Callable[[AsyncIterator[Message], Context], Awaitable[Response]]:
        bound, measured = self._bound.of(method), method.measured

        async def call(requests: AsyncIterator[Message], context: Context) -> Response:
            with self._calls:
                try:
                    with measured.call(Protocol.CONNECT, context.request_headers.allitems):
                        self._require_serving()
                        with bound:
                            whole = _received(requests)
                            response = await method.invoke_streaming(whole, _caller.get())
                            return Response(method.response_class, response)
                except Exception as error:
                    raise CallError(failure_of(method.descriptor, error)) from error

        return call

    def _streaming(
        self, method: Method
    ) -> Callable[[Message, Context], AsyncGenerator[Response, None]]:
        bound, measured = self._bound.of(method), method.measured

        # Every end of the call, also by a hang-up or a deadline, closes this generator at once.
        async def call(request: Message, context: Context) -> AsyncGenerator[Response, None]:
            with self._calls:
                try:
                    with measured.call(Protocol.CONNECT, context.request_headers.allitems):
                        self._require_serving()
                        with bound:
                            responses = method.invoke(request, _caller.get())
                            async with aclosing(responses):
                                async for response in responses:
                                    yield Response(method.response_class, response)
                except Exception as error:
                    raise CallError(failure_of(method.descriptor, error)) from error

        return call


async def _received(requests: AsyncIterator[Message]) -> AsyncIterator[Message]:
    """Yield the requests up to the caller's last one.

    Raises Failure TRUNCATED if the stream broke, INVALID_REQUEST if a request is malformed, and
    REQUEST_TOO_LARGE.
    """
    try:
        async for request in requests:
            yield request
    except ConnectError as error:
        if error.code is Code.CANCELED:
            raise Failure(reason_pb2.REASON_TRUNCATED, "The connection broke.") from error
        raise failure_of_protocol(error) from error
