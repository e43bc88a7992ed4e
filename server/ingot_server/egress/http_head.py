"""HTTP/1.1 heads as a forward proxy reads and rewrites them (RFC 9112; RFC 9110, 7.6).

It is strict, because leniency lets two programs read one head differently: a malformed head is
refused, never repaired. h11 would repair: it takes a bare LF for the end of a line, and joins
folded lines. It also takes longer (`python -m bench egress_heads`).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, TypeAlias

from ingot_server.egress.addresses import literal_address
from ingot_server.egress.refusal import Refusal

Headers: TypeAlias = tuple[tuple[str, str], ...]

END: Final = b"\r\n\r\n"

_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 (the word of RFC 9110, not a secret)
_REQUEST_LINE: Final = re.compile(rf"({_TOKEN}) ([^\x00-\x20\x7f]+) (HTTP/1\.[01])")
_STATUS_LINE: Final = re.compile(r"(HTTP/1\.[01]) ([1-5][0-9]{2})(?: [^\x00-\x08\x0a-\x1f\x7f]*)?")
# SHOUTcast 1, which speaks HTTP/1.0 otherwise.
_ICY_STATUS_LINE: Final = re.compile(r"ICY ([1-5][0-9]{2}(?: [^\x00-\x08\x0a-\x1f\x7f]*)?)")
_HEADER: Final = re.compile(rf"({_TOKEN}):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")
_ABSOLUTE: Final = re.compile(r"http://([^/?#]*)([^#]*)", re.IGNORECASE)
_AUTHORITY: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._~-]{1,254})(?::([0-9]{1,5}))?")

# `Transfer-Encoding` stays in a response: its body is relayed unchanged.
_HOP_BY_HOP: Final = frozenset(
    {"connection", "keep-alive", "proxy-connection", "te", "trailer", "upgrade"}
)


@dataclass(frozen=True, slots=True)
class RequestHead:
    """One request to the proxy: its destination, its credentials, and the head to forward."""

    host: str  # lower case, without brackets
    port: int
    authority: str
    credentials: str  # of Proxy-Authorization, decoded; empty when there are none
    content_length: int
    forwarded: bytes  # the head in origin form; empty for CONNECT

    @property
    def is_tunnel(self) -> bool:
        return not self.forwarded


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """One response from an origin or from an upstream proxy."""

    version: str
    status: int
    status_line: str
    headers: Headers

    @property
    def is_final(self) -> bool:
        return self.status >= 200

    def field(self, name: str) -> str:
        """Return all lines of one header, joined; empty if there are none."""
        return ", ".join(value for key, value in self.headers if key.lower() == name)

    def forwarded(self) -> bytes:
        """Return the head that the client receives.

        It always contains `Connection: close`: a client that used the connection again would send
        its next request, perhaps for another host, to this origin. It contains no header of other
        proxies, because a client takes such a header for this guard's own.
        """
        closing = [("Connection", "close")] if self.is_final else []
        return _joined(self.status_line, [*_end_to_end(self.headers), *closing])


def parse_request(raw: bytes) -> RequestHead:
    """Parse a request's head, which ends with the empty line. Raises Refusal."""
    first, headers = _split(raw)
    match = _REQUEST_LINE.fullmatch(first)
    if match is None:
        raise _malformed("the request line is malformed")
    method, target, version = match[1], match[2], match[3]
    credentials = _credentials(headers)
    if method == "CONNECT":
        host, port = _authority(target, default_port=None)
        return RequestHead(host, port, target, credentials, 0, b"")
    absolute = _ABSOLUTE.match(target)
    if absolute is None:
        raise _malformed("the target is neither http:// nor CONNECT's HOST:PORT")
    host, port = _authority(absolute[1], default_port=80)
    path = absolute[2] if absolute[2].startswith("/") else "/" + absolute[2]
    length = _content_length(headers)
    # Via is not added: sources treat requests that came through a proxy differently.
    kept = [item for item in _end_to_end(headers) if item[0].lower() != "host"]
    forwarded = _joined(
        f"{method} {path} {version}", [("Host", absolute[1]), *kept, ("Connection", "close")]
    )
    return RequestHead(host, port, absolute[1], credentials, length, forwarded)


def parse_response(raw: bytes) -> ResponseHead:
    """Parse a response's head, which ends with the empty line. Raises Refusal.

    The head of a radio station that begins with ICY is that of HTTP/1.0.
    """
    try:
        first, headers = _split(raw)
    except Refusal as refusal:
        raise Refusal("http_protocol_error", refusal.explanation) from refusal
    radio = _ICY_STATUS_LINE.fullmatch(first)
    if radio is not None:
        first = f"HTTP/1.0 {radio[1]}"
    match = _STATUS_LINE.fullmatch(first)
    if match is None:
        raise Refusal("http_protocol_error", "The status line is malformed.")
    return ResponseHead(match[1], int(match[2]), first, headers)


def _malformed(what: str, status: HTTPStatus | None = None) -> Refusal:
    return Refusal("http_request_error", f"The request is refused: {what}.", status=status)


def _split(raw: bytes) -> tuple[str, Headers]:
    # Latin-1 keeps every byte as it is, there and back.
    first, *lines = raw.removesuffix(END).decode("latin-1").split("\r\n")
    headers = []
    for line in lines:
        match = _HEADER.fullmatch(line)
        if match is None:
            raise _malformed("a header line is malformed")
        headers.append((match[1], match[2].rstrip(" \t")))
    return first, tuple(headers)


def _joined(first: str, headers: Iterable[tuple[str, str]]) -> bytes:
    lines = [first, *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join(lines).encode("latin-1") + END


def _end_to_end(headers: Headers) -> Headers:
    """Return `headers` without those for one hop: the known ones and those `Connection` names."""
    dropped = set(_HOP_BY_HOP)
    for name, value in headers:
        if name.lower() == "connection":
            dropped.update(item.strip().lower() for item in value.split(","))
    # These two stay whatever Connection names: without them the end of the body is unknown.
    dropped -= {"content-length", "transfer-encoding"}
    return tuple(
        (name, value)
        for name, value in headers
        if name.lower() not in dropped and not name.lower().startswith("proxy-")
    )


def _authority(text: str, *, default_port: int | None) -> tuple[str, int]:
    """Return host and port. Refuses user info, percent signs and all else not in a host name."""
    match = _AUTHORITY.fullmatch(text)
    if match is None:
        raise _malformed("the target's HOST:PORT is malformed")
    port = int(match[2]) if match[2] else default_port
    if port is None or not 1 <= port <= 65535:
        raise _malformed("the target's port is missing or out of range")
    host = match[1].lower()
    if host.startswith("[") and literal_address(host) is None:
        raise _malformed("the target's IPv6 address is malformed")
    return host.strip("[]"), port


def _content_length(headers: Headers) -> int:
    """Return the length of the request's body, which must be known before it is forwarded."""
    if any(name.lower() == "transfer-encoding" for name, _ in headers):
        raise _malformed("the length of its body is missing", HTTPStatus.LENGTH_REQUIRED)
    values = {value for name, value in headers if name.lower() == "content-length"}
    if not values:
        return 0
    value = values.pop()
    if values or not re.fullmatch(r"[0-9]{1,18}", value):
        raise _malformed("its Content-Length is malformed")
    return int(value)


def _credentials(headers: Headers) -> str:
    values = [value for name, value in headers if name.lower() == "proxy-authorization"]
    if len(values) != 1:
        return ""
    scheme, _, encoded = values[0].partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(encoded.strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""
