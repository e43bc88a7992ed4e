"""Cross-origin resource sharing: which web pages may call the API.

Without it a browser lets only pages of the API's own origin call. The requests of Connect and
gRPC-Web need a preflight request first, which allows the origin of the page.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from ingot_server.setting_values import SettingError

Headers = list[tuple[bytes, bytes]]

_ORIGIN: Final = re.compile(r"https?://[^/?#@\s]+")

# The headers of Connect and gRPC-Web clients, and of traces. The browser hides all others.
_SENT: Final = (
    b"Authorization, Content-Type, Connect-Protocol-Version, Connect-Timeout-Ms, "
    b"Connect-Content-Encoding, Connect-Accept-Encoding, Grpc-Timeout, Grpc-Encoding, "
    b"Grpc-Accept-Encoding, X-Grpc-Web, X-User-Agent, Traceparent, Tracestate"
)
_READ: Final = b"grpc-status, grpc-message, grpc-status-details-bin"
_PREFLIGHT_SECONDS: Final = b"7200"


class Cors:
    """The setting `cors_origins`, parsed. Raises SettingError for anything but origins."""

    def __init__(self, cors_origins: str) -> None:
        self._origins = frozenset(cors_origins.replace(",", " ").split())
        for origin in self._origins:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise SettingError(
                    f"cors_origins has {origin!r}, which is not the origin of a web page. Write "
                    "only scheme, host and port, such as https://example.com."
                )

    def headers(self, origin: str) -> Headers:
        """Return the headers of a response to a page of `origin`, which is empty if none sent."""
        if not self._origins:
            return []
        headers = [(b"vary", b"Origin")]
        if self.allows(origin):
            headers.append((b"access-control-allow-origin", origin.encode()))
            headers.append((b"access-control-expose-headers", _READ))
        return headers

    def preflight(self, origin: str, methods: Iterable[bytes] = (b"GET", b"POST")) -> Headers:
        """Return the headers of the response to a preflight request for a page of `origin`."""
        headers = self.headers(origin)
        if self.allows(origin):
            headers.append((b"access-control-allow-methods", b", ".join(methods)))
            headers.append((b"access-control-allow-headers", _SENT))
            headers.append((b"access-control-max-age", _PREFLIGHT_SECONDS))
        return headers

    def allows(self, origin: str) -> bool:
        """Return whether the setting lists `origin`, which is empty if none was sent."""
        return bool(origin) and ("*" in self._origins or origin in self._origins)
