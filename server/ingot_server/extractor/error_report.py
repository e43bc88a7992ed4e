"""Turns an exception of yt-dlp into the plain values of a `Report` (protocol.py)."""

from __future__ import annotations

import base64
import importlib.metadata
import re
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit

import yt_dlp.version

_NO_TUNNEL: Final = re.compile(r"unnel.*\b(403|50\d)\b")


def _running_version() -> str:
    directory = str(Path(yt_dlp.__file__).parents[1])
    for distribution in importlib.metadata.distributions(name="yt-dlp", path=[directory]):
        return distribution.version
    return str(yt_dlp.version.__version__)


VERSION: Final = _running_version()
"""The yt-dlp that this process imported, as package registries write it: `2026.8.19`."""


@dataclass(frozen=True, slots=True)
class LastFailure:
    """The last request that failed."""

    url: str
    status: int
    """The HTTP status; 0 if there was no response."""
    fields: Mapping[str, str]
    """The response's header fields, by lower-case name."""
    no_tunnel: bool
    """Whether the status is a proxy's that refused a tunnel for a TLS connection."""

    @classmethod
    def of(cls, error: BaseException, url: str) -> Self:
        """Return what a RequestError says about the request for `url`."""
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
        """Whether a proxy forbids the request, so that a retry is useless."""
        by_proxy = self.no_tunnel or "proxy-status" in self.fields
        return self.status == HTTPStatus.FORBIDDEN and by_proxy


class Refused(Exception):
    """The egress guard refused a request; a retry is useless."""


def report_of(
    error: BaseException, failure: LastFailure | None = None, proxy: str = ""
) -> dict[str, Any]:
    """Return the fields of a `Report` for `error` and the request that failed before it.

    `proxy` is the guard's URL: it is asked again if yt-dlp dropped its explanation.
    """
    report = describe(error)
    failure = failure or LastFailure("", 0, {}, no_tunnel=False)
    report["host"] = urlsplit(failure.url).hostname or ""
    if "any player response" in report["message"] and failure.status:
        # YouTube's extractor turns each failed request into a warning, and then says only this.
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
    """Return the class names, messages and HTTP status of an exception and its causes."""
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
    """Return the URL of the last request, after redirects; empty if unknown."""
    for one in _chain(error):
        url = getattr(getattr(one, "request", None), "url", "")
        if url:
            return str(url)
    return ""


def _ask_guard(proxy: str, host: str, port: int, status: str) -> str:
    """Ask the guard again why it refused a tunnel: the libraries drop the header that says so."""
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
        with socket.create_connection((parts.hostname, parts.port or 80), timeout=15) as connection:
            connection.sendall("\r\n".join((*lines, "", "")).encode())
            response = connection.recv(65536).decode("latin-1")
    except OSError:
        return ""
    found = re.search(r"(?im)^proxy-status:\s*(.+?)\r?$", response)
    return found[1] if found and response.split(" ", 2)[1:2] == [status] else ""
