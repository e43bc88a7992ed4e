"""Whether a request may reach a server of this name, and come from where it comes from.

Browsers send requests to this port for every page that they show, also to 127.0.0.1. They say which
host a page asked for (Host), where the page comes from (Origin), and how the two are related
(Sec-Fetch-Site, https://www.w3.org/TR/fetch-metadata/). No page can change these fields. Programs
that are not browsers send only Host.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlsplit

from ingot.v1 import reason_pb2
from ingot_server.api.call_head import Refusal
from ingot_server.api.cors import Cors
from ingot_server.api.hosts import Hosts
from ingot_server.errors import Failure

# `none` is what the user typed or chose from the bookmarks.
_OWN_SITES: Final = frozenset({b"same-origin", b"none"})
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class RequestOrigins:
    """The hosts that requests may name, and the pages whose calls are accepted."""

    def __init__(self, hosts: Hosts, cors: Cors) -> None:
        self._hosts = hosts
        self._cors = cors

    def misdirected(self, scope: Any) -> Refusal | None:
        """Return the response to a request whose Host is not one of this server's."""
        named = [value for name, value in scope["headers"] if name == b"host"]
        if len(named) == 1 and self._hosts.allows(named[0].decode("latin-1")):
            return None
        return Refusal(
            HTTPStatus.MISDIRECTED_REQUEST,
            Failure(
                reason_pb2.REASON_ORIGIN_FORBIDDEN,
                "The Host of the request is not a name of this server. Call it by its address or "
                "by localhost; the operator can add names to INGOT_HTTP_HOSTS.",
                metadata={"setting": "INGOT_HTTP_HOSTS"},
            ),
        )

    def foreign(self, scope: Any) -> Refusal | None:
        """Return the response to a call by a page of another site."""
        headers = dict(scope["headers"])
        origin = headers.get(b"origin", b"").decode("latin-1")
        site = headers.get(b"sec-fetch-site")
        if self._cors.allows(origin) or self._is_own(origin, site, headers):
            return None
        return Refusal(
            HTTPStatus.FORBIDDEN,
            Failure(
                reason_pb2.REASON_ORIGIN_FORBIDDEN,
                f"Pages of {origin or 'other sites'} may not call this server. The operator can "
                "add their origin to INGOT_CORS_ORIGINS, or, if a proxy serves this server under "
                "that name, the name to INGOT_HTTP_HOSTS.",
                metadata={"setting": "INGOT_CORS_ORIGINS"},
            ),
        )

    def is_of_own_page(self, scope: Any) -> bool:
        """Return whether a browser says that a page of this server sent the request."""
        headers = dict(scope["headers"])
        origin = headers.get(b"origin", b"").decode("latin-1")
        site = headers.get(b"sec-fetch-site")
        if site is not None:
            return bool(site == b"same-origin")
        return bool(origin) and self._is_own(origin, None, headers)

    def _is_own(self, origin: str, site: bytes | None, headers: dict[bytes, bytes]) -> bool:
        # Browsers send it to https and to this machine. It holds behind a proxy, whatever that
        # makes of the Host.
        if site is not None:
            return site in _OWN_SITES
        if not origin:
            return True
        host = headers.get(b"host", b"").decode("latin-1")
        return is_of_host(origin, host) or self._hosts.names(urlsplit(origin).netloc)


def is_of_host(origin: str, host: str) -> bool:
    """Return whether an Origin is that of a page from `host`, HOST or HOST:PORT.

    The scheme is not compared: a proxy may have ended TLS.
    """
    try:
        page = urlsplit(origin)
        asked = urlsplit(f"{page.scheme}://{host}")
        default = _DEFAULT_PORTS.get(page.scheme)
        return bool(page.hostname) and (page.hostname, page.port or default) == (
            asked.hostname,
            asked.port or default,
        )
    except ValueError:
        return False
