"""Upstream proxies, through which a deployment sends all its traffic or that of one source."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import unquote, urlsplit

from ingot_server.egress.http_head import ResponseHead
from ingot_server.egress.refusal import Refusal, proxy_error
from ingot_server.setting_values import SettingError


@dataclass(frozen=True, slots=True)
class Upstream:
    """The address of a proxy, and the value of Proxy-Authorization, empty if it needs none."""

    host: str
    port: int
    authorization: str = field(repr=False)

    def connect_request(self, host: str, port: int) -> bytes:
        """Return the head that asks for a tunnel to `host`, which the upstream resolves itself."""
        authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
        if self.authorization:
            lines.append(f"Proxy-Authorization: {self.authorization}")
        return "\r\n".join([*lines, "", ""]).encode("latin-1")


def parse_upstream(setting: str, name: str = "INGOT_EGRESS_PROXY") -> Upstream | None:
    """Parse `http://[USER:PASSWORD@]HOST:PORT`; None if `setting` is empty.

    Raises SettingError, which calls the proxy `name`.
    """
    if not setting:
        return None
    try:
        parts = urlsplit(setting)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or not port or parts.scheme != "http" or parts.path not in ("", "/"):
        # The value is not quoted, because it may contain a password.
        raise SettingError(f"{name} is not http://HOST:PORT.")
    authorization = ""
    if parts.username is not None:
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = f"Basic {base64.b64encode(user.encode()).decode()}"
    return Upstream(host, port, authorization)


def check_connect_response(response: ResponseHead, host: str) -> None:
    """Raise the Refusal that an upstream's response to CONNECT means; 2xx is accepted."""
    if 200 <= response.status <= 299:
        return
    explanation = f"The upstream proxy returned {response.status} for {host}."
    error = proxy_error(response.field("proxy-status"))
    if response.status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED or error == "http_request_error":
        error = "proxy_configuration_error"
    if not error:
        by_status: dict[int, str] = {
            HTTPStatus.FORBIDDEN: "http_request_denied",
            HTTPStatus.GATEWAY_TIMEOUT: "connection_timeout",
        }
        error = by_status.get(response.status, "destination_unavailable")
    raise Refusal(error, explanation)
