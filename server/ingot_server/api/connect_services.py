"""The services over the Connect protocol, gRPC-Web and plain JSON, built from their descriptors.

`connectrpc` implements the protocols, with the messages of another protobuf library. The codecs
here let it carry Google's messages, and responses that are already serialized.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

from connectrpc.code import Code
from connectrpc.errors import ConnectError, ErrorDetail
from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType
from connectrpc.request import RequestContext
from connectrpc.server import ConnectASGIApplication, Endpoint
from google.protobuf.descriptor_pb2 import MethodOptions
from google.protobuf.json_format import MessageToDict, MessageToJson, Parse, ParseError
from google.protobuf.message import DecodeError, Message
from google.rpc import code_pb2
from google.rpc.status_pb2 import Status
from protobuf.wkt import Any as WireAny
from protobuf.wkt import Struct

from ingot.v1 import reason_pb2
from ingot_server.api.caller import Serialized, Service
from ingot_server.api.calls import Calls, Method, failure_of, malformed, methods
from ingot_server.api.status import status_of
from ingot_server.errors import Failure

# The same limit as in grpc_server.py.
_REQUEST_BYTES: Final = 4 << 20

_IDEMPOTENCY: Final = {
    MethodOptions.IDEMPOTENCY_UNKNOWN: IdempotencyLevel.UNKNOWN,
    MethodOptions.NO_SIDE_EFFECTS: IdempotencyLevel.NO_SIDE_EFFECTS,
    MethodOptions.IDEMPOTENT: IdempotencyLevel.IDEMPOTENT,
}

Context = RequestContext[Message, "_Response"]


class ConnectServices(ConnectASGIApplication[tuple[Service, ...]]):
    """An ASGI application that serves /SERVICE/METHOD by POST, and reads also by GET.

    Its calls are counted in `calls`. `admit` is called before each one and may raise Failure.
    """

    path = "/"

    def __init__(
        self, services: Iterable[Service], calls: Calls, admit: Callable[[], None]
    ) -> None:
        self._calls = calls
        self._admit = admit
        found = {
            f"/{method.descriptor.containing_service.full_name}/{method.descriptor.name}": method
            for service in services
            for method in methods(service)
        }
        self.paths = frozenset(found)
        super().__init__(
            service=tuple(services),
            endpoints=lambda _: {path: self._endpoint(method) for path, method in found.items()},
            read_max_bytes=_REQUEST_BYTES,
            codecs=(_BinaryCodec(), _JsonCodec()),
            # Compression would run on the event loop, also for video. A proxy in front can do it.
            compressions=(),
        )

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
            output=_Response,
            idempotency_level=_IDEMPOTENCY[descriptor.GetOptions().idempotency_level],
            stream_type=kind,
        )
        if descriptor.client_streaming:
            return Endpoint.client_stream(info, self._collecting(method))
        if descriptor.server_streaming:
            return Endpoint.server_stream(info, self._streaming(method))
        return Endpoint.unary(info, self._unary(method))

    def _unary(self, method: Method) -> Callable[[Message, Context], Awaitable[_Response]]:
        async def call(request: Message, context: Context) -> _Response:
            with self._calls:
                try:
                    self._admit()
                    response = await method.invoke(request, _peer(context))
                    return _Response(method.response_class, response)
                except Exception as error:
                    raise _error(failure_of(method.descriptor, error)) from error

        return call

    def _collecting(
        self, method: Method
    ) -> Callable[[AsyncIterator[Message], Context], Awaitable[_Response]]:
        async def call(requests: AsyncIterator[Message], context: Context) -> _Response:
            with self._calls:
                try:
                    self._admit()
                    response = await method.invoke_streaming(_received(requests), _peer(context))
                    return _Response(method.response_class, response)
                except Exception as error:
                    raise _error(failure_of(method.descriptor, error)) from error

        return call

    def _streaming(
        self, method: Method
    ) -> Callable[[Message, Context], AsyncGenerator[_Response, None]]:
        # Every end of the call, also by a hang-up or a deadline, closes this generator at once.
        async def call(request: Message, context: Context) -> AsyncGenerator[_Response, None]:
            with self._calls:
                try:
                    self._admit()
                    responses = method.invoke(request, _peer(context))
                    async with aclosing(responses):
                        async for response in responses:
                            yield _Response(method.response_class, response)
                except Exception as error:
                    raise _error(failure_of(method.descriptor, error)) from error

        return call


async def _received(requests: AsyncIterator[Message]) -> AsyncIterator[Message]:
    """Yield the requests up to the caller's last one.

    Raises Failure TRUNCATED if the stream broke, and INVALID_REQUEST if a request is malformed.
    """
    try:
        async for request in requests:
            yield request
    except ConnectError as error:
        if error.code is Code.CANCELED:
            raise Failure(reason_pb2.REASON_TRUNCATED, "The connection broke.") from error
        raise Failure(reason_pb2.REASON_INVALID_REQUEST, error.message) from error


@dataclass(frozen=True, slots=True)
class _Response:
    """The response of a service, and its message class."""

    response_class: type[Message]
    content: Message | Serialized


class _BinaryCodec:
    def name(self) -> str:
        return "proto"

    def encode(self, message: _Response) -> bytes:
        content = message.content
        return content if isinstance(content, bytes) else content.SerializeToString()

    def decode(self, data: bytes | bytearray, message_class: type[Message]) -> Message:
        try:
            return message_class.FromString(bytes(data))
        except DecodeError as error:
            raise _error(malformed(message_class, error)) from error


class _JsonCodec:
    """Protobuf JSON. All watchers of a job get the same bytes, so the last ones are cached."""

    def __init__(self) -> None:
        self._last: tuple[Serialized, bytes] = (b"", b"{}")

    def name(self) -> str:
        return "json"

    def encode(self, message: _Response) -> bytes:
        content = message.content
        if not isinstance(content, bytes):
            return _json(content)
        if content is not self._last[0]:
            self._last = content, _json(message.response_class.FromString(content))
        return self._last[1]

    def decode(self, data: bytes | bytearray, message_class: type[Message]) -> Message:
        message = message_class()
        try:
            # As everywhere in protobuf, a field of a newer contract is not an error.
            return Parse(bytes(data), message, ignore_unknown_fields=True)
        except (ParseError, ValueError, RecursionError) as error:
            raise _error(malformed(message_class, error)) from error


class _Detail(ErrorDetail):
    """A detail that people can also read: as JSON in `debug`, which is optional in Connect."""

    def __init__(self, type_url: str, value: bytes, readable: Mapping[str, Any]) -> None:
        super().__init__(WireAny(type_url=type_url, value=value))
        self._readable = readable

    def value(self, *_: Any) -> Any:
        return Struct.from_python(self._readable)


def _error(failure: Failure) -> ConnectError:
    status = status_of(failure)
    return ConnectError(_code(status), status.message, [*_details(status)])


def _code(status: Status) -> Code:
    name = code_pb2.Code.Name(status.code)
    return Code.CANCELED if name == "CANCELLED" else Code[name]


def _details(status: Status) -> Iterable[_Detail]:
    for detail in status.details:
        readable = MessageToDict(detail)
        del readable["@type"]
        yield _Detail(detail.type_url, detail.value, readable)


def _json(message: Message) -> bytes:
    return MessageToJson(message, indent=None, ensure_ascii=False).encode()


def _peer(context: Context) -> str:
    """Return the caller's address as gRPC writes it, so that limits cover both transports."""
    host, _, port = (context.client_address or "").rpartition(":")
    return f"ipv6:%5B{host}%5D:{port}" if ":" in host else f"ipv4:{host}:{port}"
