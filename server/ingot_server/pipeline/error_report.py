"""Tells an exception of yt-dlp as plain values: a `Report` of extraction_failures.py."""

from __future__ import annotations

import base64
import re
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

from ingot_server.pipeline.running_version import VERSION


@dataclass(frozen=True, slots=True)
class LastFailure:
    """The last request that got no good answer."""

    url: str
    status: int
    """0: there was no answer at all."""
    fields: Mapping[str, str]
    """Of the answer, their names in lower case."""

    @classmethod
    def of(cls, error: BaseException, url: str) -> Self:
        """What a RequestError tells of the request for `url`."""
        response = getattr(error, "response", None)
        fields = dict(response.headers) if response is not None else {}
        return cls(
            str(getattr(response, "url", "") or url),
            getattr(response, "status", 0),
            {name.lower(): value for name, value in fields.items()},
        )


def report_of(
    error: BaseException, failure: LastFailure | None = None, proxy: str = ""
) -> dict[str, Any]:
    """What `Report` holds of `error`, and of the request that failed before it.

    `proxy` is the guard's URL: it is asked again where yt-dlp did not keep what it said.
    """
    report = describe(error)
    failure = failure or LastFailure("", 0, {})
    report["host"] = urlsplit(failure.url).hostname or ""
    if "any player response" in report["message"] and failure.status:
        # YouTube's extractor makes a warning of each request that fails, and then says only this.
        report["http_status"] = failure.status
        report["message"] += f"\nHTTP Error {failure.status}"
    networked = re.search(r"HTTP Error|unable to download|Tunnel", report["message"], re.IGNORECASE)
    if networked and str(failure.status) in report["message"]:
        report["proxy_status"] = str(failure.fields.get("proxy-status", ""))
        report["retry_after"] = str(failure.fields.get("retry-after", ""))
    if re.search(r"unnel.*\b50\d\b", report["message"]) and not report["proxy_status"]:
        report["host"] = _pool_host(error) or report["host"]
        report["proxy_status"] = _ask_guard(proxy, report["host"])
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


def _pool_host(error: BaseException) -> str:
    """The host of the tunnel that urllib3 could not make."""
    for one in _chain(error):
        host = getattr(getattr(one, "pool", None), "host", "")
        if host:
            return str(host)
    return ""


def _ask_guard(proxy: str, host: str) -> str:
    """Why the guard makes no tunnel to `host`: http.client drops the fields that say so."""
    parts = urlsplit(proxy)
    if not re.fullmatch(r"[A-Za-z0-9.:_-]+", host):
        return ""
    name = f"[{host}]" if ":" in host else host
    account = base64.b64encode(f"{parts.username}:{parts.password}".encode()).decode()
    lines = (
        f"CONNECT {name}:443 HTTP/1.1",
        f"Host: {name}:443",
        f"Proxy-Authorization: Basic {account}",
    )
    try:
        with socket.create_connection((parts.hostname, parts.port or 80), timeout=15) as way:
            way.sendall("\r\n".join((*lines, "", "")).encode())
            answer = way.recv(65536).decode("latin-1")
    except OSError:
        return ""
    found = re.search(r"(?im)^proxy-status:\s*(.+?)\r?$", answer)
    return found[1] if found else ""
