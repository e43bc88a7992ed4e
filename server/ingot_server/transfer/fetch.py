"""Requests through the egress guard: redirects are followed here, failures are translated."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Final, Self
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from ingot.v1 import reason_pb2
from ingot_server.config import Settings
from ingot_server.egress.destinations import Destinations
from ingot_server.egress.proxy import failure_from_proxy_status
from ingot_server.egress.tls import tls_context
from ingot_server.errors import Failure
from ingot_server.sources.http import redirect_target
from ingot_server.transfer.headers import REDIRECTS, location

# Some sites refuse whatever does not look like a browser. The values are those of yt-dlp.
_BROWSER: Final = {
    "User-Agent": "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 "
    "(KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language": "en-us,en;q=0.5",
    "Sec-Fetch-Mode": "navigate",
}
_REFUSALS: Final = frozenset({401, 403, 406, 412, 429})
_READ_BYTES: Final = 1 << 17
_HEADER_BYTES: Final = 1 << 15


class Fetcher:
    """An HTTP client for one job, through the guard at `proxy_url`; `async with` closes it.

    `trusted` is the address that the grant in `proxy_url` covers, see EgressProxy.grant. Without
    `checks_hosts` only the guard refuses hosts, because the grant covers more than that. With
    `tries_as_browser`, a request that is refused is sent a second time as a browser would send it,
    and so are all later ones.
    """

    def __init__(
        self,
        settings: Settings,
        proxy_url: str,
        *,
        trusted: tuple[str, int] | None = None,
        checks_hosts: bool = True,
        tries_as_browser: bool = False,
    ) -> None:
        self._settings = settings
        self._tries_as_browser = tries_as_browser
        self._pose: Mapping[str, str] = {}
        self._trusted = trusted
        self._destinations = Destinations(settings)
        self._checks_hosts = checks_hosts
        self._proxy = URL(proxy_url)
        trace = aiohttp.TraceConfig()
        trace.on_request_headers_sent.append(_headers_sent)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                ssl=tls_context(settings.egress_ca_file), force_close=True
            ),
            headers={
                "User-Agent": settings.user_agent,
                "Accept": "*/*",
                "Accept-Encoding": "identity",
            },
            timeout=aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None),
            trace_configs=[trace],
            auto_decompress=False,
            read_bufsize=_READ_BYTES,
            max_line_size=_HEADER_BYTES,
            max_field_size=_HEADER_BYTES,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    @asynccontextmanager
    async def get(
        self, url: str, headers: Mapping[str, str]
    ) -> AsyncIterator[tuple[str, aiohttp.ClientResponse]]:
        """Yield the response of `url` after redirects, with its final URL; closed at exit.

        Its status is not a redirect, but any other. Raises Failure when there is no response.
        """
        final_url, response = await self._follow(url, headers)
        if self._tries_as_browser and not self._pose and response.status in _REFUSALS:
            response.close()
            self._pose = _BROWSER
            final_url, response = await self._follow(url, headers)
        try:
            yield final_url, response
        finally:
            # Without this, leaving the context would wait for the rest of an unread body.
            response.close()

    @asynccontextmanager
    async def post(
        self, url: str, headers: Mapping[str, str], content: aiohttp.FormData | bytes
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Yield the response to `content`, which is sent to `url`; closed at exit.

        A redirect is not followed: it is the response. The response must begin within stall_timeout
        from the head of the request on. Raises Failure when there is no response.
        """
        response = await self._request(url, headers, content)
        try:
            yield response
        finally:
            response.close()

    async def _follow(
        self, url: str, headers: Mapping[str, str]
    ) -> tuple[str, aiohttp.ClientResponse]:
        """Return the response of `url` after redirects, with its final URL."""
        for _ in range(self._settings.max_redirects + 1):
            response = await self._request(url, {**self._pose, **headers})
            if response.status not in REDIRECTS:
                return url, response
            response.close()
            url = self._redirect_target(url, response.headers.get("Location", ""))
        raise Failure(
            reason_pb2.REASON_TOO_MANY_REDIRECTS,
            f"{_host(url)} redirects more than {self._settings.max_redirects} times, perhaps in a "
            "circle. Use the final URL.",
        )

    async def read_body(self, response: aiohttp.ClientResponse, *, at_most: int) -> bytes:
        """Return the first `at_most` bytes of a response of `get`, or all if it has fewer.

        Raises Failure STALLED if they take longer than stall_timeout, and SOURCE_UNREACHABLE.
        """
        host = _host(str(response.url))
        stall_timeout = self._settings.stall_timeout.total_seconds()
        body = bytearray()
        try:
            async with asyncio.timeout(stall_timeout):
                while len(body) < at_most and (data := await response.content.readany()):
                    body += data
        except TimeoutError as exc:
            raise stalled(host, stall_timeout) from exc
        except (aiohttp.ClientError, OSError) as exc:
            raise broken_off(host) from exc
        return bytes(body[:at_most])

    async def _request(
        self,
        url: str,
        headers: Mapping[str, str],
        content: aiohttp.FormData | bytes | None = None,
    ) -> aiohttp.ClientResponse:
        host = _host(url)
        if self._checks_hosts and _authority(url) != self._trusted:
            self._destinations.check_url(url)
        connect_timeout = self._settings.connect_timeout.total_seconds()
        stall_timeout = self._settings.stall_timeout.total_seconds()
        try:
            async with asyncio.timeout(connect_timeout) as limit:
                wait = _Wait(limit, stall_timeout)
                response = await self._session.request(
                    "GET" if content is None else "POST",
                    _unchanged(url),
                    data=content,
                    headers=headers,
                    proxy=self._proxy,
                    allow_redirects=False,
                    trace_request_ctx=wait,
                )
        except TimeoutError as exc:
            if wait.sent:
                raise stalled(host, stall_timeout) from exc
            raise _unreachable(f"{host} could not be reached in {connect_timeout:g} s.") from exc
        except (aiohttp.ClientError, OSError) as exc:
            raise _translated(exc, host) from exc
        # In a tunnel the source itself could have sent this field.
        if url.startswith("http:"):
            fields = response.headers.getall("Proxy-Status", [])
            failure = failure_from_proxy_status(", ".join(fields), host)
            if failure is not None:
                response.close()
                raise failure
        return response

    def _redirect_target(self, url: str, field: str) -> str:
        host = _host(url)
        if not field:
            raise Failure(reason_pb2.REASON_SOURCE_FAILED, f"{host} redirects without an address.")
        try:
            target = redirect_target(url, location(field))
        except Failure as exc:
            raise Failure(
                reason_pb2.REASON_UNSUPPORTED_URL,
                f"{host} redirects to a URL that Ingot does not accept: {exc}",
            ) from exc
        if target is None:
            scheme = field.partition(":")[0][:20].lower()
            raise Failure(
                reason_pb2.REASON_UNSUPPORTED_URL,
                f"{host} redirects to a `{scheme}:` URL; only http and https are followed.",
            )
        return target


@dataclass(slots=True)
class _Wait:
    """The time limit of one request: first for the connection, then for the response."""

    limit: asyncio.Timeout
    response_seconds: float
    sent: bool = False


async def _headers_sent(
    _session: aiohttp.ClientSession,
    context: SimpleNamespace,
    _params: aiohttp.TraceRequestHeadersSentParams,
) -> None:
    wait: _Wait = context.trace_request_ctx
    wait.sent = True
    wait.limit.reschedule(asyncio.get_running_loop().time() + wait.response_seconds)


def stalled(host: str, seconds: float) -> Failure:
    """Return the failure of a source that sent nothing, or nearly nothing, for `seconds`."""
    return Failure(
        reason_pb2.REASON_STALLED, f"{host} sent nothing, or nearly nothing, for {seconds:g} s."
    )


def broken_off(host: str) -> Failure:
    """Return the failure of a source that closed the connection before its response was whole."""
    return _unreachable(f"{host} broke off its response.")


def _translated(exc: aiohttp.ClientError | OSError, host: str) -> Failure:
    if isinstance(exc, aiohttp.ClientHttpProxyError):
        fields = exc.headers.getall("Proxy-Status", []) if exc.headers else []
        failure = failure_from_proxy_status(", ".join(fields), host)
        return failure or _unreachable(f"{host} could not be reached through Ingot's egress guard.")
    if isinstance(exc, aiohttp.ClientProxyConnectionError):
        return _unreachable(f"{host} could not be reached: Ingot's egress guard does not respond.")
    if isinstance(exc, aiohttp.ClientConnectorCertificateError):
        return _unreachable(
            f"{host} has a certificate that is not trusted: {exc.certificate_error}. "
            "INGOT_EGRESS_CA_FILE can name more authorities."
        )
    if isinstance(exc, aiohttp.ClientSSLError):
        return _unreachable(f"{host} does not use TLS correctly: {exc}.")
    if isinstance(exc, aiohttp.ClientResponseError):
        return Failure(
            reason_pb2.REASON_SOURCE_FAILED,
            f"{host} sent a response that is not HTTP: {exc.message[:200]}",
        )
    return _unreachable(f"{host} closed the connection without a response.")


def _unreachable(message: str) -> Failure:
    return Failure(reason_pb2.REASON_SOURCE_UNREACHABLE, message)


def _unchanged(url: str) -> URL:
    """Return a URL that aiohttp requests exactly as it is written.

    It has the query in its path, because yarl drops a `?` that nothing follows.
    """
    scheme, _, rest = url.partition("://")
    authority, slash, target = rest.partition("/")
    return URL.build(scheme=scheme, authority=authority, path=slash + target, encoded=True)


def _authority(url: str) -> tuple[str, int | None]:
    parts = URL(url, encoded=True)
    return (parts.raw_host or "").lower(), parts.port


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""
