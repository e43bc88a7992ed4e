"""Which web pages may call the API: cross-origin resource sharing, as browsers ask for it.

Without it a browser lets only pages of the API's own origin call. A page of another one that sends
what Connect and gRPC-Web need is held back until its origin was let in by a preflight request.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from ingot_server.config import SettingError

Headers = list[tuple[bytes, bytes]]

_ORIGIN: Final = re.compile(r"https?://[^/?#@\s]+")

# What Connect and gRPC-Web clients send and read; the browser hides all else.
_SENT: Final = (
    b"Content-Type, Connect-Protocol-Version, Connect-Timeout-Ms, Connect-Content-Encoding, "
    b"Connect-Accept-Encoding, Grpc-Timeout, Grpc-Encoding, Grpc-Accept-Encoding, X-Grpc-Web, "
    b"X-User-Agent"
)
_READ: Final = b"grpc-status, grpc-message, grpc-status-details-bin"
_REMEMBERED_SECONDS: Final = b"7200"


class Cors:
    """The rule that the setting `cors_origins` makes. Raises SettingError when it names none."""

    def __init__(self, cors_origins: str) -> None:
        self._origins = frozenset(cors_origins.replace(",", " ").split())
        for origin in self._origins:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise SettingError(
                    f"cors_origins has {origin!r}, which is no origin of web pages: "
                    "write scheme, host and port alone, as in https://example.com."
                )

    def headers(self, origin: str) -> Headers:
        """What an answer to a page of `origin` says besides; `origin` is empty without a page."""
        if not self._origins:
            return []
        headers = [(b"vary", b"Origin")]
        if self._allows(origin):
            headers.append((b"access-control-allow-origin", origin.encode()))
            headers.append((b"access-control-expose-headers", _READ))
        return headers

    def preflight(self, origin: str, methods: Iterable[bytes] = (b"GET", b"POST")) -> Headers:
        """The answer to a browser that asks before it lets a page of `origin` call."""
        headers = self.headers(origin)
        if self._allows(origin):
            headers.append((b"access-control-allow-methods", b", ".join(methods)))
            headers.append((b"access-control-allow-headers", _SENT))
            headers.append((b"access-control-max-age", _REMEMBERED_SECONDS))
        return headers

    def _allows(self, origin: str) -> bool:
        return bool(origin) and ("*" in self._origins or origin in self._origins)
