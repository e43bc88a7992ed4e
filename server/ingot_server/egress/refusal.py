"""The refusals of the guard: RFC 9209 `Proxy-Status`, and the Failure that each error means."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from ingot.v1 import reason_pb2
from ingot.v1.reason_pb2 import Reason
from ingot_server.egress.addresses import address_forbidden
from ingot_server.errors import Failure

NAME: Final = "ingot-egress"


@dataclass(frozen=True, slots=True)
class _Meaning:
    status: HTTPStatus
    reason: Reason.ValueType
    message: str


_UNREACHABLE: Final = reason_pb2.REASON_SOURCE_UNREACHABLE
_NOT_FOUND: Final = reason_pb2.REASON_HOST_NOT_FOUND

# The proxy error types of RFC 9209, 2.3, that this guard uses. Their messages do not name the
# address of the host, so that callers cannot map a private network. The log names it.
_MEANINGS: Final[Mapping[str, _Meaning]] = {
    "destination_ip_prohibited": _Meaning(
        HTTPStatus.FORBIDDEN,
        reason_pb2.REASON_ADDRESS_FORBIDDEN,
        "it leads to an address or a port that Ingot may not contact",
    ),
    "dns_error": _Meaning(
        HTTPStatus.BAD_GATEWAY,
        _NOT_FOUND,
        "{host} has no address. Check how the URL's host is spelled.",
    ),
    "dns_timeout": _Meaning(
        HTTPStatus.GATEWAY_TIMEOUT,
        _NOT_FOUND,
        "Looking up {host} took too long. Try again, or check the workers' DNS server.",
    ),
    "destination_unavailable": _Meaning(
        HTTPStatus.SERVICE_UNAVAILABLE,
        _UNREACHABLE,
        "{host} cannot be reached. Check the URL, or try again later.",
    ),
    "destination_ip_unroutable": _Meaning(
        HTTPStatus.BAD_GATEWAY,
        _UNREACHABLE,
        "There is no route to {host}. Check the workers' network, or try again later.",
    ),
    "connection_refused": _Meaning(
        HTTPStatus.BAD_GATEWAY,
        _UNREACHABLE,
        "{host} refused the connection. Check the URL's port, or try again later.",
    ),
    "connection_timeout": _Meaning(
        HTTPStatus.GATEWAY_TIMEOUT,
        _UNREACHABLE,
        "{host} did not respond in time. Try again later.",
    ),
    "connection_terminated": _Meaning(
        HTTPStatus.BAD_GATEWAY,
        _UNREACHABLE,
        "{host} closed the connection without a response. Try again later.",
    ),
    "http_protocol_error": _Meaning(
        HTTPStatus.BAD_GATEWAY,
        _UNREACHABLE,
        "{host} does not use HTTP there. Check the URL's scheme and port.",
    ),
    "http_request_denied": _Meaning(
        HTTPStatus.FORBIDDEN,
        _UNREACHABLE,
        "The proxy that INGOT_EGRESS_PROXY names refuses {host}. Allow it there.",
    ),
    "proxy_configuration_error": _Meaning(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        _UNREACHABLE,
        "The proxy that INGOT_EGRESS_PROXY names cannot be used, so {host} was not reached. "
        "Check its address and credentials.",
    ),
    "connection_limit_reached": _Meaning(
        HTTPStatus.SERVICE_UNAVAILABLE,
        _UNREACHABLE,
        "{host} was not reached, because the job has as many connections open as it may. "
        "INGOT_EGRESS_JOB_CONNECTIONS allows more.",
    ),
    "http_response_body_size": _Meaning(
        HTTPStatus.BAD_GATEWAY,
        reason_pb2.REASON_TOO_LARGE,
        "The job has received more than INGOT_EGRESS_JOB_BYTES allows.",
    ),
    "http_request_error": _Meaning(
        HTTPStatus.BAD_REQUEST,
        reason_pb2.REASON_INTERNAL,
        "Ingot's egress guard refused Ingot's own request for {host}. This is a defect: "
        "report it with the job's id.",
    ),
}


class Refusal(Exception):
    """A request that the guard refuses. `error` is one of RFC 9209's error types.

    `note` is only for the log.
    """

    def __init__(
        self,
        error: str,
        explanation: str,
        *,
        status: HTTPStatus | None = None,
        header: str = "",
        note: str = "",
    ) -> None:
        super().__init__(explanation)
        self.error = error
        self.explanation = explanation
        self.status = status or _MEANINGS[error].status
        self.header = header
        self.note = note

    def response(self) -> bytes:
        """Return the whole HTTP response."""
        body = f"{self.explanation}\n".encode()
        lines = [
            f"HTTP/1.1 {self.status.value} {self.status.phrase}",
            f"Proxy-Status: {NAME}; error={self.error}",
            *([self.header] if self.header else []),
            "Content-Type: text/plain; charset=utf-8",
            f"Content-Length: {len(body)}",
            "Connection: close",
        ]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def failure_from_proxy_status(proxy_status: str, host: str) -> Failure | None:
    """Return the Failure that this guard's `Proxy-Status` means; None if it names none of ours.

    `host` is the requested host, for the message and for metadata `host`.
    """
    error = proxy_error(proxy_status, by=NAME)
    meaning = _MEANINGS.get(error)
    if meaning is None:
        return None
    if meaning.reason == reason_pb2.REASON_ADDRESS_FORBIDDEN:
        return address_forbidden(host, meaning.message)
    message = meaning.message.format(host=host[:255])
    return Failure(meaning.reason, message, metadata={"host": host})


def proxy_error(proxy_status: str, *, by: str = "") -> str:
    """Return the error type in a `Proxy-Status` field; empty if this guard knows none of them.

    `by` names the proxy whose error counts; if it is empty, the nearest proxy counts, the last one.
    """
    found = ""
    # Members are split at commas and parameters at semicolons, but not inside quoted strings.
    for member in re.findall(r'(?:[^,"]|"(?:[^"\\]|\\.)*")+', proxy_status):
        name, *parameters = re.findall(r'(?:[^;"]|"(?:[^"\\]|\\.)*")+', member.strip()) or [""]
        if by and name.strip().strip('"') != by:
            continue
        for parameter in parameters:
            key, _, value = parameter.strip().partition("=")
            if key == "error" and value.strip() in _MEANINGS:
                found = value.strip()
    return found
