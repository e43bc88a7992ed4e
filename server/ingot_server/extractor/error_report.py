"""Tells an exception of yt-dlp as plain values: a `Report` of failures.py."""

from __future__ import annotations

import base64
import re
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, Self
from urllib.parse import urlsplit

from ingot_server.extractor.running_version import VERSION

_NO_TUNNEL: Final = re.compile(r"unnel.*\b(403|50\d)\b")


@dataclass(frozen=True, slots=True)
class LastFailure:
    """The last request that got no good answer."""

    url: str
    status: int
    """0: there was no answer at all."""
    fields: Mapping[str, str]
    """Of the answer, their names in lower case."""
    no_tunnel: bool
    """Whether the status is a proxy's, which makes no tunnel for a TLS connection."""

    @classmethod
    def of(cls, error: BaseException, url: str) -> Self:
        """What a RequestError tells of the request for `url`."""
        response = getattr(error, "response", None)
        fields = dict(response.headers) if response is not None else {}
        no_tunnel = _NO_TUNNEL.search(str(error))
        return cls(
            str(getattr(response, "url", "") or url),
            int(no_tunnel[1]) if no_tunnel else getattr(response, "status", 0),
            {name.lower(): value for name, value in fields.items()},
            no_tunnel is not None,
        )

    @property
    def refused(self) -> bool:
        """Whether a proxy forbids it, so that asking again is of no use."""
        by_proxy = self.no_tunnel or "proxy-status" in self.fields
        return self.status == HTTPStatus.FORBIDDEN and by_proxy


class Refused(Exception):
    """A proxy lets no request of this kind out."""


def report_of(
    error: BaseException, failure: LastFailure | None = None, proxy: str = ""
) -> dict[str, Any]:
    """What `Report` holds of `error`, and of the request that failed before it.

    `proxy` is the guard's URL: it is asked again where yt-dlp did not keep what it said.
    """
    report = describe(error)
    failure = failure or LastFailure("", 0, {}, no_tunnel=False)
    report["host"] = urlsplit(failure.url).hostname or ""
    if "any player response" in report["message"] and failure.status:
        # YouTube's extractor makes a warning of each request that fails, and then says only this.
        report["http_status"] = failure.status
        report["message"] += f"\nHTTP Error {failure.status}"
    networked = re.search(r"HTTP Error|unable to download|Tunnel", report["message"], re.IGNORECASE)
    if networked and str(failure.status) in report["message"]:
        report["proxy_status"] = str(failure.fields.get("proxy-status", ""))
        report["retry_after"] = str(failure.fields.get("retry-after", ""))
    no_tunnel = _NO_TUNNEL.search(report["message"])
    if no_tunnel and not report["proxy_status"]:
        end = urlsplit(_redirected(error) or failure.url)
        report["host"] = end.hostname or ""
        report["proxy_status"] = _ask_guard(proxy, report["host"], end.port or 443, no_tunnel[1])
    return report


def describe(error: BaseException) -> dict[str, Any]:
    """The class names, messages and HTTP status of an exception and all that led to it."""
    kinds: list[str] = []
    messages: list[str] = []
    status = 0
    for one in _chain(error):
        kinds += [kind.__name__ for kind in type(one).__mro__[:-2] if kind.__name__ not in kinds]
        if str(one) and str(one) not in messages:
            messages.append(str(one)[:2000])
        status = status or int(getattr(one, "status", 0) or 0)
    return {
        "kind": "failed",
        "message": "\n".join(messages)[:8000],
        "kinds": kinds,
        "http_status": status,
        "proxy_status": "",
        "host": "",
        "retry_after": "",
        "start_time": "",
        "version": VERSION,
    }


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    waiting: list[Any] = [error]
    while waiting and len(seen) < 20:
        one = waiting.pop(0)
        if not isinstance(one, BaseException) or one in seen:
            continue
        seen.append(one)
        yield one
        held = getattr(one, "exc_info", None)
        waiting += [
            held[1] if held else None,
            getattr(one, "cause", None),
            one.__cause__ or one.__context__,
        ]
        waiting += [item for item in one.args if isinstance(item, BaseException)]
        waiting.append(getattr(one, "reason", None))


def _redirected(error: BaseException) -> str:
    """The URL that was asked for at last, after redirects; empty: it is not told."""
    for one in _chain(error):
        url = getattr(getattr(one, "request", None), "url", "")
        if url:
            return str(url)
    return ""


def _ask_guard(proxy: str, host: str, port: int, status: str) -> str:
    """Why the guard answers `status` for a tunnel: the libraries drop the fields that say so."""
    parts = urlsplit(proxy)
    if not re.fullmatch(r"[A-Za-z0-9.:_-]+", host):
        return ""
    name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    account = base64.b64encode(f"{parts.username}:{parts.password}".encode()).decode()
    lines = (
        f"CONNECT {name} HTTP/1.1",
        f"Host: {name}",
        f"Proxy-Authorization: Basic {account}",
    )
    try:
        with socket.create_connection((parts.hostname, parts.port or 80), timeout=15) as way:
            way.sendall("\r\n".join((*lines, "", "")).encode())
            answer = way.recv(65536).decode("latin-1")
    except OSError:
        return ""
    found = re.search(r"(?im)^proxy-status:\s*(.+?)\r?$", answer)
    return found[1] if found and answer.split(" ", 2)[1:2] == [status] else ""
