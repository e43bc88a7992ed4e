"""The guard: a forward proxy on loopback that all outgoing traffic of a worker goes through.

It serves CONNECT and `http://` requests of clients that hold a grant, resolves the name itself, and
dials only addresses it has checked, so neither a redirect nor a name that resolves differently
between check and use (DNS rebinding) leads anywhere else. A refusal is a response with
`Proxy-Status: ingot-egress; error=...` (RFC 9209), which `failure_from_proxy_status` turns into a
Failure.

State: the valid grants (grants.py), the connections, each with one task (connection.py), and the
host limits (host_limits.py). It belongs to the event loop that `start` ran in; `close` leaves
nothing of it.
"""

from __future__ import annotations

import asyncio
import socket
from functools import partial

from ingot_server.allowed_destinations import AllowedDestinations
from ingot_server.config import Settings
from ingot_server.egress.bandwidth import Bandwidth
from ingot_server.egress.connection import Connection, Guard
from ingot_server.egress.destinations import Destinations, Resolve
from ingot_server.egress.dial import Resolver
from ingot_server.egress.grants import EgressGrant, EgressGrants, GrantLimits
from ingot_server.egress.host_limits import HostLimits
from ingot_server.egress.refusal import failure_from_proxy_status
from ingot_server.egress.stream import Stream
from ingot_server.egress.upstream import parse_upstream

__all__ = ["EgressGrant", "EgressProxy", "failure_from_proxy_status"]


class EgressProxy:
    """The guard of one worker. It listens on 127.0.0.1, at a free port that `start` chooses."""

    def __init__(self, settings: Settings, *, resolve: Resolve | None = None) -> None:
        """Prepare the guard; `resolve` looks up names in place of the system's resolver.

        It returns the addresses of a name, and raises OSError if there are none. Raises
        SettingError for an `egress_proxy` that cannot be used.
        """
        self.port = 0
        self._resolver = Resolver()
        self._grants = EgressGrants()
        self._guard = Guard(
            settings,
            Destinations(settings),
            self._grants,
            HostLimits(settings.connections_per_host),
            resolve or self._resolver,
            parse_upstream(settings.egress_proxy),
            Bandwidth(settings.bandwidth),
        )
        self._server: asyncio.Server | None = None
        self._others = set[asyncio.Server]()
        self._closed = False
        self._connections: dict[asyncio.Task[None], Connection] = {}

    async def start(self) -> None:
        """Begin to listen."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def serve(self, listener: socket.socket) -> asyncio.Server:
        """Accept on `listener`, too, until what is returned or the guard is closed."""
        server = await asyncio.get_running_loop().create_server(self._accept, sock=listener)
        if self._closed:
            server.close()
        self._others = {each for each in self._others if each.is_serving()} | {server}
        return server

    async def close(self) -> None:
        """Stop listening, close every connection at once, and wait until all are gone."""
        self._closed = True
        for server in (self._server, *self._others):
            if server is not None:
                server.close()
        for connection in self._connections.values():
            connection.stop()
        if self._connections:
            await asyncio.wait(set(self._connections))
        if self._server is not None:
            await self._server.wait_closed()
            self._server = None
        self._resolver.close()

    def grant(
        self,
        holder: str,
        upstream: str = "",
        *,
        trusted: tuple[str, int] | None = None,
        allowed: AllowedDestinations | None = None,
        bandwidth: Bandwidth | None = None,
        limits: GrantLimits | None = None,
    ) -> EgressGrant:
        """Return a grant for `holder`, a job's id without colons; it is valid until revoked.

        Call it after `start`. The traffic of the grant goes through the proxy `upstream` instead of
        `egress_proxy`, unless `upstream` is empty. Raises SettingError for an unusable `upstream`.

        `trusted` is a host, in lower case, and a port that the grant may reach directly whatever
        its address is: a server that the settings name, never one that a caller names. `allowed`
        are destinations that it may reach directly in the same way: hosts, and names that lead only
        to addresses in these networks when they are dialled, other than those of Ingot itself.
        `bandwidth` is a limit that the grant shares with others, besides the guard's own. `limits`
        are those of this grant alone.
        """
        chained = parse_upstream(upstream, "The proxy of a source")
        return self._grants.grant(
            holder,
            self.port,
            upstream=chained,
            trusted=trusted,
            allowed=allowed,
            bandwidth=bandwidth,
            limits=limits,
        )

    def _accept(self) -> Stream:
        connection = Connection(self._guard)
        connection.client.on_connected = partial(self._serve, connection)
        return connection.client

    def _serve(self, connection: Connection) -> None:
        if self._closed:
            connection.client.abort()
            return
        task = connection.start()
        self._connections[task] = connection
        task.add_done_callback(self._connections.pop)
