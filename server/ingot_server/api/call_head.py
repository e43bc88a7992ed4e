"""What the head of an HTTP request must say for its call to begin.

Whatever the protocols allow a caller to write there is understood or refused here, with words that
say what to write instead. `connectrpc` checks the same things, and says less.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qs

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions

from ingot.v1 import reason_pb2
from ingot_server.api.client_certificates import ClientCertificates, properties_of
from ingot_server.errors import Failure

_UNARY: Final = ("application/json", "application/proto")
_STREAM: Final = ("application/connect+json", "application/connect+proto")
_GRPC_WEB: Final = (
    "application/grpc-web+proto",
    "application/grpc-web",
    "application/grpc-web+json",
)
_PATH_LENGTH: Final = 128

# What a protocol parses before its call begins, so that its errors would not be ours.
_TIMEOUTS: Final = {
    b"connect-timeout-ms": (
        re.compile(rb"[0-9]{1,10}"),
        "Connect-Timeout-Ms must be a number of milliseconds of at most 10 digits, such as 5000.",
    ),
    b"grpc-timeout": (
        re.compile(rb"[0-9]{1,8}[HMSmun]"),
        "Grpc-Timeout must be a number of at most 8 digits and one of H, M, S, m, u, n, as in 5S.",
    ),
}
_VERSION: Final = b"connect-protocol-version"
_COMPRESSIONS: Final = (b"content-encoding", b"connect-content-encoding", b"grpc-encoding")


@dataclass(frozen=True, slots=True)
class Refusal:
    """An HTTP response instead of a call."""

    status: HTTPStatus
    failure: Failure
    headers: tuple[tuple[bytes, bytes], ...] = ()


def unknown_path(path: str, paths: Iterable[str]) -> Refusal:
    """Return the response to a request for a path that is not one of `paths`."""
    alike = difflib.get_close_matches(path[:_PATH_LENGTH], paths, 1)
    advice = f"The path most like it is {alike[0]}." if alike else "docs/http.md lists the paths."
    return Refusal(
        HTTPStatus.NOT_FOUND,
        _unsupported(
            "This path does not exist. Calls go to /ingot.v1.SERVICE/METHOD, with capital letters "
            f"as in the contract. {advice}"
        ),
    )


def not_a_call(scope: Any, method: MethodDescriptor) -> Refusal | None:
    """Return the response to a request whose HTTP method or content type is not one of a call."""
    streams = method.client_streaming or method.server_streaming
    reads = method.GetOptions().idempotency_level == MethodOptions.NO_SIDE_EFFECTS
    verbs = ("GET", "POST") if reads and not streams else ("POST",)
    if scope["method"] not in verbs:
        return Refusal(
            HTTPStatus.METHOD_NOT_ALLOWED,
            _unsupported(f"{method.name} is called by {' or '.join(verbs)}."),
            ((b"allow", ", ".join(verbs).encode()),),
        )
    if scope["method"] == "GET":
        return None
    header = _first(scope, b"content-type").decode()
    content_type = header.partition(";")[0].strip().lower()
    own = _STREAM if streams else _UNARY
    if content_type in own or header in _GRPC_WEB:
        return None
    accepted = (*own, *_GRPC_WEB)
    if content_type.startswith("application/grpc") and "web" not in content_type:
        advice = "This port serves HTTP. Use the port for gRPC, 50051 by default."
    elif streams:
        advice = (
            f"{method.name} streams. Send Content-Type: {accepted[0]}, and five bytes before each "
            "message as in docs/http.md."
        )
    else:
        advice = f"Send Content-Type: {accepted[0]} and a JSON object as the body."
    return Refusal(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        _unsupported(advice),
        ((b"accept-post", ", ".join(accepted).encode()),),
    )


def checked(scope: Any) -> tuple[Any, Failure | None]:
    """Return the scope of a call to go on with, and why the call must not begin, or None."""
    failure = next(_failures(scope), None)
    dropped: set[bytes] = set()
    if scope["method"] == "GET":
        # It says nothing about a request without a body, and would select a protocol.
        dropped.add(b"content-type")
    if failure is not None:
        # What remains is well-formed, so that the error is written in the protocol of the call.
        dropped |= {*_TIMEOUTS, _VERSION, *_COMPRESSIONS}
        scope = {**scope, "query_string": b"encoding=json"}
    if not dropped:
        return scope, failure
    headers = [(name, value) for name, value in scope["headers"] if name not in dropped]
    return {**scope, "headers": headers}, failure


def authorization(scope: Any) -> str:
    """Return the header Authorization. If it was sent more than once, it is no token."""
    sent = [value for name, value in scope["headers"] if name == b"authorization"]
    return b", ".join(sent).decode("latin-1")


def certificate(scope: Any) -> str:
    """Return the name in the caller's certificate. Empty without one."""
    return ClientCertificates.name(properties_of(scope["extensions"]["tls"]["peercert"]))


def peer(scope: Any) -> str:
    """Return the caller's address as gRPC writes it, so that limits cover both transports."""
    host, port = scope["client"] or ("", "")
    return f"ipv6:%5B{host}%5D:{port}" if ":" in host else f"ipv4:{host}:{port}"


def _failures(scope: Any) -> Iterator[Failure]:
    for name, value in scope["headers"]:
        if name in _TIMEOUTS:
            form, message = _TIMEOUTS[name]
            if not form.fullmatch(value):
                yield _invalid(message)
        elif name == _VERSION and value != b"1":
            yield _invalid("Connect-Protocol-Version must be 1, or not be sent.")
        elif name in _COMPRESSIONS and value not in {b"identity", b""}:
            yield _unsupported(
                f"Requests are not decompressed. Send the body as it is, without {name.decode()}."
            )
    query = parse_qs(scope["query_string"].decode(), keep_blank_values=True)
    if scope["method"] == "GET":
        yield from _failures_of_query(query)
    elif query:
        yield _invalid("A POST has its request in the body. Remove the query from the URL.")


def _failures_of_query(query: Mapping[str, list[str]]) -> Iterator[Failure]:
    if query.get("encoding") not in (["json"], ["proto"]):
        yield _invalid("The query must have encoding=json or encoding=proto.")
    if len(query.get("message", ())) != 1:
        yield _invalid("The query must have the request as message=..., once; `{}` sets no field.")
    if query.get("base64", ["1"]) != ["1"]:
        yield _invalid("The query may have base64=1, and no other value of base64.")
    if query.get("connect", ["v1"]) != ["v1"]:
        yield _invalid("The query may have connect=v1, and no other version.")
    if query.get("compression", ["identity"]) != ["identity"]:
        yield _unsupported("Requests are not decompressed. Send the message without compression.")
    if unknown := query.keys() - {"encoding", "message", "base64", "connect", "compression"}:
        yield _invalid(
            f"The query has {min(unknown)!r}. The fields of a request go into message, as JSON."
        )


def _invalid(message: str) -> Failure:
    return Failure(reason_pb2.REASON_INVALID_REQUEST, message)


def _unsupported(message: str) -> Failure:
    return Failure(reason_pb2.REASON_UNSUPPORTED_CALL, message)


def _first(scope: Any, header: bytes) -> bytes:
    return next((value for name, value in scope["headers"] if name == header), b"")
