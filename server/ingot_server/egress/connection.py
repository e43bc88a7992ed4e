r"""One client's connection to the guard, from its request's head to the last byte relayed.

    head -> grant -> host -> host limit -> addresses -> origin -> relay
      \_______\_______\_______________________\___________\___ Refusal, sent with Proxy-Status

It carries one request. It ends when the origin has sent everything, when the client closes (which
cancels the current stage), when its grant is revoked, or when no byte moves for too long.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from ingot_server.config import Settings
from ingot_server.egress.addresses import Address, literal_address
from ingot_server.egress.bandwidth import Bandwidth
from ingot_server.egress.destinations import Destinations, Resolve
from ingot_server.egress.dial import (
    allowed_addresses,
    connect,
    permitted_addresses,
    resolve_host,
)
from ingot_server.egress.grants import EgressGrant, EgressGrants
from ingot_server.egress.host_limits import HostLimits
from ingot_server.egress.http_head import RequestHead, parse_request, parse_response
from ingot_server.egress.refusal import NAME, Refusal
from ingot_server.egress.stream import HeadTooLarge, Stream
from ingot_server.egress.upstream import Upstream, check_connect_response
from ingot_server.errors import Failure
from ingot_server.event_log import EventLogger
from ingot_server.log_events import Event
from ingot_server.metrics.definitions import GUARD_REFUSALS

logger = EventLogger(__name__)

_ESTABLISHED: Final = b"HTTP/1.1 200 Connection established\r\n\r\n"
_CLOSE_SECONDS: Final = 1.0
# Responses are large, requests are small.
_CLIENT_BUFFER: Final = 64 << 10
_ORIGIN_BUFFER: Final = 256 << 10


@dataclass(frozen=True, slots=True)
class Guard:
    """What all connections of the guard share."""

    settings: Settings
    destinations: Destinations
    grants: EgressGrants
    host_limits: HostLimits
    resolve: Resolve
    upstream: Upstream | None
    bandwidth: Bandwidth

    @property
    def idle_limit(self) -> float:
        """Seconds without a byte after which a connection is closed.

        It is longer than the wait for a stalled source, so a stall is reported with its own reason.
        """
        return 3 * self.settings.stall_timeout.total_seconds()


class Connection:
    """A client's connection, and the connection to the origin that serves it."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._origin: Stream | None = None
        self._grant: EgressGrant | None = None
        self._authority = "an unknown host"
        self._task: asyncio.Task[None] | None = None
        self._idle_check: asyncio.TimerHandle | None = None
        # Once set, the task only waits for the two ends.
        self._settled = False
        self.client = Stream(_CLIENT_BUFFER)
        self.client.on_end = self.stop

    @property
    def bytes_received(self) -> int:
        return self._origin.received if self._origin else 0

    @property
    def bytes_sent(self) -> int:
        return self._origin.sent if self._origin else 0

    def start(self) -> asyncio.Task[None]:
        """Begin to serve; the task ends when both ends are closed."""
        self._task = asyncio.create_task(self._serve_client(), name="egress-connection")
        return self._task

    def stop(self) -> None:
        """Close both ends now."""
        if self._origin is not None:
            self._origin.abort()
        if self.client.ended:
            self.client.abort()
        else:
            self.client.reset()
        if self._task is not None and not self._settled and not self._task.cancelling():
            self._task.cancel()

    async def _serve_client(self) -> None:
        try:
            await self._serve_request()
        except Refusal as refusal:
            GUARD_REFUSALS.add(refusal.error)
            self._log_refusal(refusal)
            await self.client.send_final(refusal.response(), wait_seconds=_CLOSE_SECONDS)
        except asyncio.CancelledError:
            # Only `stop` cancels; all that is left to do is to close the ends below.
            pass
        finally:
            self._settled = True
            if self._idle_check is not None:
                self._idle_check.cancel()
            ends = [self.client, *([self._origin] if self._origin else [])]
            for end in ends:
                end.abort()
            await asyncio.wait({end.lost for end in ends})
            if self._grant is not None:
                self._grant.remove_tunnel(self)

    async def _serve_request(self) -> None:
        request = await self._read_request()
        self._authority = request.authority
        self._grant = self._guard.grants.find(request.credentials)
        if self._grant is None:
            raise Refusal(
                "http_request_error",
                "A valid grant is needed.",
                status=HTTPStatus.PROXY_AUTHENTICATION_REQUIRED,
                header=f'Proxy-Authenticate: Basic realm="{NAME}"',
            )
        self._grant.add_tunnel(self)
        covered = await self._covered_addresses(self._grant, request, self._deadline())
        if not covered:
            try:
                self._guard.destinations.check(request.host, request.port)
            except Failure as failure:
                raise Refusal("destination_ip_prohibited", failure.message) from failure
        async with self._guard.host_limits.acquire(request.host.rstrip(".")):
            await self._dial(request, covered)
            await self._relay(request)

    async def _read_request(self) -> RequestHead:
        try:
            async with asyncio.timeout(self._guard.settings.connect_timeout.total_seconds()):
                return parse_request(await self.client.read_head())
        except TimeoutError as error:
            status = HTTPStatus.REQUEST_TIMEOUT
            raise Refusal(
                "http_request_error", "The request did not arrive.", status=status
            ) from error
        except HeadTooLarge as error:
            status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            raise Refusal("http_request_error", "The head is too large.", status=status) from error

    def _deadline(self) -> float:
        timeout = self._guard.settings.connect_timeout
        return asyncio.get_running_loop().time() + timeout.total_seconds()

    async def _covered_addresses(
        self, grant: EgressGrant, request: RequestHead, deadline: float
    ) -> Sequence[Address]:
        """Return the addresses of a host that the grant covers whatever they are; else none.

        They are dialled as they are: the name could lead elsewhere the next time.
        """
        resolve = self._guard.resolve
        if grant.trusts(request.host, request.port):
            return await resolve_host(request.host, resolve, deadline=deadline)
        return await allowed_addresses(
            request.host,
            request.port,
            resolve,
            self._guard.destinations,
            grant.allowed,
            deadline=deadline,
        )

    async def _dial(self, request: RequestHead, covered: Sequence[Address]) -> None:
        deadline = self._deadline()
        if covered:
            await self._open_origin(await connect(covered, request.port, deadline=deadline))
            return
        upstream = (self._grant.upstream if self._grant else None) or self._guard.upstream
        if upstream is not None:
            await self._dial_upstream(upstream, request, deadline)
            return
        addresses = await permitted_addresses(
            request.host,
            request.port,
            self._guard.resolve,
            self._guard.destinations,
            deadline=deadline,
        )
        await self._open_origin(await connect(addresses, request.port, deadline=deadline))

    async def _dial_upstream(
        self, upstream: Upstream, request: RequestHead, deadline: float
    ) -> None:
        try:
            addresses = await resolve_host(upstream.host, self._guard.resolve, deadline=deadline)
            origin = await self._open_origin(
                await connect(addresses, upstream.port, deadline=deadline)
            )
        except Refusal as refusal:
            raise Refusal(
                "proxy_configuration_error", "The upstream proxy cannot be reached."
            ) from refusal
        # A literal is sent as it was read here: other programs read `010.8.8.8` as another address.
        host = str(literal_address(request.host) or request.host)
        origin.write(upstream.connect_request(host, request.port))
        try:
            async with asyncio.timeout_at(deadline):
                response = parse_response(await origin.read_head())
        except TimeoutError as error:
            raise Refusal(
                "connection_timeout", "The upstream proxy did not respond in time."
            ) from error
        except (ConnectionError, HeadTooLarge) as error:
            raise Refusal(
                "proxy_configuration_error", "The upstream proxy did not send a response."
            ) from error
        check_connect_response(response, request.host)

    async def _open_origin(self, connected: socket.socket) -> Stream:
        try:
            _, origin = await asyncio.get_running_loop().create_connection(
                lambda: Stream(_ORIGIN_BUFFER), sock=connected
            )
        except BaseException:
            connected.close()
            raise
        assert self._grant is not None
        origin.limit_to((self._guard.bandwidth, self._grant.bandwidth))
        self._origin = origin
        return origin

    async def _relay(self, request: RequestHead) -> None:
        origin = self._origin
        assert origin is not None
        self._check_idle()
        if request.is_tunnel:
            self.client.write(_ESTABLISHED)
            self.client.relay_to(origin)
        else:
            origin.write(request.forwarded)
            self.client.relay_to(origin, allowance=request.content_length)
            await self._relay_response_head(origin)
        self._settled = True
        origin.on_end = self._origin_ended
        origin.relay_to(self.client)
        if origin.ended:
            self._origin_ended()
        await asyncio.wait({self.client.lost, origin.lost})

    async def _relay_response_head(self, origin: Stream) -> None:
        try:
            head = parse_response(await origin.read_head())
            while not head.is_final and head.status != HTTPStatus.SWITCHING_PROTOCOLS:
                self.client.write(head.forwarded())
                head = parse_response(await origin.read_head())
        except ConnectionError as error:
            raise Refusal("connection_terminated", "The host closed the connection.") from error
        except HeadTooLarge as error:
            raise Refusal(
                "http_protocol_error", "The head of the response is too large."
            ) from error
        if not head.is_final:
            raise Refusal("http_protocol_error", "The host switched protocols without a request.")
        self.client.write(head.forwarded())

    def _origin_ended(self) -> None:
        # A response that broke off must not look complete to the client.
        assert self._origin is not None
        if self._origin.error is None:
            self.client.close()
        else:
            self.client.reset()

    def _check_idle(self, moved_before: int = -1) -> None:
        """Stop the connection if no byte moved since the last check; check again later."""
        moved = self.bytes_received + self.bytes_sent + self.client.sent
        if moved == moved_before:
            self.stop()
            return
        self._idle_check = asyncio.get_running_loop().call_later(
            self._guard.idle_limit, self._check_idle, moved
        )

    def _log_refusal(self, refusal: Refusal) -> None:
        is_forbidden = refusal.error == "destination_ip_prohibited"
        log = logger.warning if is_forbidden else logger.info
        holder = self._grant.holder if self._grant else "an unknown client"
        why = refusal.note or refusal.explanation
        log(
            *(Event.EGRESS_REFUSED, "%s of %s: %s: %s"),
            *(self._authority, holder, refusal.error, why),
            error=refusal.error,
        )
