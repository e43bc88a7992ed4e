"""Egress grants: who may use the guard, and how much; what they have used; how they end."""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import quote

from ingot_server.allowed_destinations import AllowedDestinations
from ingot_server.egress.bandwidth import Bandwidth
from ingot_server.egress.refusal import Refusal
from ingot_server.egress.upstream import Upstream

# How often the bytes of a grant are compared with its limit.
_COUNT_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class GrantLimits:
    """How much one grant may use."""

    received_bytes: int
    """Bytes from origins, over all connections. A grant may receive more within one second."""
    connections: int
    """Connections that are open at the same time."""


class Tunnel(Protocol):
    """One connection through the guard that a grant pays for."""

    @property
    def bytes_received(self) -> int: ...
    @property
    def bytes_sent(self) -> int: ...
    def stop(self) -> None:
        """Close both of its ends now."""


class EgressGrant:
    """The right of one job to use the guard. It belongs to the guard's event loop."""

    def __init__(
        self,
        holder: str,
        port: int,
        remove: Callable[[EgressGrant], None],
        upstream: Upstream | None,
        trusted: tuple[str, int] | None,
        allowed: AllowedDestinations,
        bandwidth: Bandwidth,
        limits: GrantLimits | None,
    ) -> None:
        self.holder = holder
        self.upstream = upstream
        self.bandwidth = bandwidth
        self.exhausted = False
        """Whether more bytes were received than the limit allows; then it has no connections."""
        self._limits = limits
        self._count: asyncio.TimerHandle | None = None
        self.allowed = allowed
        self._trusted = trusted
        self._token = secrets.token_urlsafe(24)
        self._port = port
        self._remove = remove
        self._tunnels: set[Tunnel] = set()
        self._received_before = 0
        self._sent_before = 0

    def __repr__(self) -> str:
        return f"EgressGrant({self.holder!r})"

    @property
    def proxy_url(self) -> str:
        """The proxy for HTTP clients: http://HOLDER:TOKEN@127.0.0.1:PORT. It is a secret."""
        return f"http://{quote(self.holder, safe='')}:{self._token}@127.0.0.1:{self._port}"

    @property
    def bytes_received(self) -> int:
        """Bytes received from origins so far, including heads and TLS."""
        return self._received_before + sum(tunnel.bytes_received for tunnel in self._tunnels)

    @property
    def bytes_sent(self) -> int:
        """Bytes sent to origins so far, including heads and TLS."""
        return self._sent_before + sum(tunnel.bytes_sent for tunnel in self._tunnels)

    def trusts(self, host: str, port: int) -> bool:
        """Return whether the grant covers this host whatever its address is."""
        return (host, port) == self._trusted or self.allowed.names(host, port)

    def has_token(self, token: str) -> bool:
        """Return whether `token` is the token of this grant, in constant time."""
        return hmac.compare_digest(token.encode(), self._token.encode())

    def revoke(self) -> None:
        """End the grant: close its connections at once and accept no new ones.

        Safe to repeat. Call it only from the thread of the event loop.
        """
        self._remove(self)
        if self._count is not None:
            self._count.cancel()
        self._stop_tunnels()

    def add_tunnel(self, tunnel: Tunnel) -> None:
        """Count the bytes of `tunnel`, and stop it when the grant is revoked or exhausted.

        Raises Refusal if the grant is exhausted, or if too many others are open.
        """
        if self._limits is not None:
            if self.exhausted:
                raise Refusal("http_response_body_size", "The job has received too much.")
            if len(self._tunnels) >= self._limits.connections:
                raise Refusal("connection_limit_reached", "The job has too many connections.")
            if self._count is None:
                self._count_later(self._limits.received_bytes)
        self._tunnels.add(tunnel)

    def remove_tunnel(self, tunnel: Tunnel) -> None:
        """Keep the byte counts of `tunnel`, which has ended."""
        if tunnel in self._tunnels:
            self._tunnels.discard(tunnel)
            self._received_before += tunnel.bytes_received
            self._sent_before += tunnel.bytes_sent

    def _count_later(self, most: int) -> None:
        loop = asyncio.get_running_loop()
        self._count = loop.call_later(_COUNT_SECONDS, self._compare_bytes, most)

    def _compare_bytes(self, most: int) -> None:
        self._count = None
        if self.bytes_received > most:
            self.exhausted = True
            self._stop_tunnels()
        elif self._tunnels:
            self._count_later(most)

    def _stop_tunnels(self) -> None:
        for tunnel in tuple(self._tunnels):
            tunnel.stop()


class EgressGrants:
    """The valid grants, by holder; one holder may have several, as a job's attempts do."""

    def __init__(self) -> None:
        self._valid: dict[str, set[EgressGrant]] = {}

    def grant(
        self,
        holder: str,
        port: int,
        *,
        upstream: Upstream | None = None,
        trusted: tuple[str, int] | None = None,
        allowed: AllowedDestinations | None = None,
        bandwidth: Bandwidth | None = None,
        limits: GrantLimits | None = None,
    ) -> EgressGrant:
        """Return a new grant; its traffic goes through `upstream` if that is given."""
        if ":" in holder:
            raise ValueError("RFC 7617 does not allow a colon in the name of a user")
        made = EgressGrant(
            holder,
            port,
            self._remove,
            upstream,
            trusted,
            allowed or AllowedDestinations(),
            bandwidth or Bandwidth(0),
            limits,
        )
        self._valid.setdefault(holder, set()).add(made)
        return made

    def find(self, credentials: str) -> EgressGrant | None:
        """Return the grant of `HOLDER:TOKEN`; None if it is unknown or was revoked."""
        holder, _, token = credentials.rpartition(":")
        valid = self._valid.get(holder, ())
        return next((grant for grant in valid if grant.has_token(token)), None)

    def _remove(self, ended: EgressGrant) -> None:
        valid = self._valid.get(ended.holder, set())
        valid.discard(ended)
        if not valid:
            self._valid.pop(ended.holder, None)
