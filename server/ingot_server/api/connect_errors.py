"""The errors of calls over HTTP: each has a code, a reason and details, and says what to do.

`connectrpc` writes the errors of calls in their protocol. Its own have neither a reason nor advice,
so they are translated here. Errors of HTTP, before a call begins, are JSON in the form of Connect.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar
from http import HTTPStatus
from typing import Any, Final

from connectrpc.code import Code
from connectrpc.errors import ConnectError, ErrorDetail
from connectrpc.request import RequestContext
from google.protobuf.json_format import MessageToDict
from google.rpc import code_pb2
from google.rpc.status_pb2 import Status
from protobuf.wkt import Any as WireAny
from protobuf.wkt import Struct

from ingot.v1 import reason_pb2
from ingot_server.api.status import status_of, unexpected
from ingot_server.errors import Failure

REQUEST_BYTES: Final = 4 << 20
"""The limit of one request message; grpc_server.py has the same."""

refused: ContextVar[Failure | None] = ContextVar("refused", default=None)
"""Why the call of this task must not begin. It ends with this error, in its own protocol."""

Headers = Sequence[tuple[bytes, bytes]]

_REFUSALS: Final[Mapping[int, HTTPStatus]] = {
    code_pb2.UNAUTHENTICATED: HTTPStatus.UNAUTHORIZED,
    code_pb2.PERMISSION_DENIED: HTTPStatus.FORBIDDEN,
    code_pb2.RESOURCE_EXHAUSTED: HTTPStatus.TOO_MANY_REQUESTS,
    code_pb2.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
}

_Context = RequestContext[Any, Any]


class _Detail(ErrorDetail):
    """A detail that people can also read: as JSON in `debug`, which is optional in Connect."""

    def __init__(self, type_url: str, value: bytes, readable: Mapping[str, Any]) -> None:
        super().__init__(WireAny(type_url=type_url, value=value))
        self.readable = readable

    def value(self, *_: Any) -> Any:
        return Struct.from_python(self.readable)


class CallError(ConnectError):
    """A failure, as the exception that `connectrpc` writes to the caller."""

    def __init__(self, failure: Failure) -> None:
        status = status_of(failure)
        super().__init__(_code(status), status.message, [*_details(status)])
        self.failure = failure


class Translation:
    """An interceptor through which every error of a call passes before it is written."""

    async def on_start(self, _: _Context) -> None:
        """Raise the error of a call that was refused for its head."""
        if failure := refused.get():
            raise CallError(failure)

    async def on_end(self, _: None, context: _Context, error: Exception | None) -> None:
        """Raise the error again, with reason and advice, if `connectrpc` made it."""
        if error is None or isinstance(error, CallError):
            return
        if isinstance(error, ConnectError):
            raise CallError(failure_of_protocol(error)) from error
        method = f"{context.method.service_name}.{context.method.name}"
        raise CallError(unexpected(method, error)) from error


async def refuse(send: Any, status: HTTPStatus, failure: Failure, headers: Headers = ()) -> None:
    """Respond to a request that is not a call."""
    error = status_of(failure)
    details = [
        {
            "type": detail.type_name,
            "value": base64.b64encode(detail.message_bytes).decode().rstrip("="),
            "debug": detail.readable,
        }
        for detail in _details(error)
    ]
    text = {"code": _code(error).value, "message": error.message, "details": details}
    body = json.dumps(text, ensure_ascii=False).encode()
    kind = (b"content-type", b"application/json")
    length = (b"content-length", str(len(body)).encode())
    start = {"type": "http.response.start", "status": status.value}
    await send({**start, "headers": [kind, length, *headers]})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def refuse_caller(send: Any, failure: Failure) -> None:
    """Respond to a request whose caller `Authentication.admit` has refused."""
    await refuse(send, _REFUSALS[failure.treatment.code], failure)


def failure_of_protocol(error: ConnectError) -> Failure:
    """Return the failure that an error stands for which `connectrpc` found, or was given."""
    if isinstance(error, CallError):
        return error.failure
    match error.code:
        case Code.CANCELED:
            # The caller gets it only if this server ended the call.
            return Failure(
                reason_pb2.REASON_SHUTTING_DOWN,
                "This server is shutting down. Call again: another server takes the call.",
            )
        case Code.DEADLINE_EXCEEDED:
            return Failure(
                reason_pb2.REASON_DEADLINE_EXCEEDED,
                "The call did not end before its deadline. Its work may have been done; call again "
                "with a longer timeout.",
            )
        case Code.RESOURCE_EXHAUSTED:
            return Failure(
                reason_pb2.REASON_REQUEST_TOO_LARGE,
                f"The request has more than {REQUEST_BYTES >> 20} MiB. Send less at a time. A file "
                "is sent in chunks by Upload, or to a URL of CreateUploadUrl.",
                metadata={"limit_bytes": str(REQUEST_BYTES)},
            )
        case _:
            return Failure(
                reason_pb2.REASON_INVALID_REQUEST,
                f"The body does not have the form of its protocol ({error.message}). See "
                "docs/http.md, or use a client of Connect or gRPC-Web.",
            )


def _code(status: Status) -> Code:
    name = code_pb2.Code.Name(status.code)
    return Code.CANCELED if name == "CANCELLED" else Code[name]


def _details(status: Status) -> Iterable[_Detail]:
    for detail in status.details:
        readable = MessageToDict(detail)
        del readable["@type"]
        yield _Detail(detail.type_url, detail.value, readable)
