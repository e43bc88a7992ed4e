"""The guard: a forward proxy on loopback that all outgoing traffic of a worker goes through.

It takes CONNECT and `http://` requests from whoever holds a pass, resolves the name itself, and
dials only addresses it has checked, so neither a redirect nor a name that changes its answer
between check and use (DNS rebinding) leads anywhere else. A refusal is a response with
`Proxy-Status: ingot-egress; error=...` (RFC 9209), which `failure_from_proxy_status` turns into a
Failure.

State: the valid passes (passes.py), the connections, each with one task (connection.py), and the
turns at hosts (turns.py). All of it belongs to the event loop that `start` ran in; nothing of it
is left after `close`.
"""

from __future__ import annotations

import asyncio
from functools import partial

from ingot_server.config import Settings
from ingot_server.egress.connection import Connection, Guard
from ingot_server.egress.dial import Resolve, Resolver
from ingot_server.egress.grants import EgressGrant, EgressGrants
from ingot_server.egress.host_limits import HostLimits
from ingot_server.egress.refusal import failure_from_proxy_status
from ingot_server.egress.stream import Stream
from ingot_server.egress.upstream import parse_upstream

__all__ = ["EgressGrant", "EgressProxy", "failure_from_proxy_status"]


class EgressProxy:
    """The guard of one worker. Listens on 127.0.0.1, at a free port known after `start`."""

    def __init__(self, settings: Settings, *, resolve: Resolve | None = None) -> None:
        """`resolve` gives the addresses of a name, OSError when it has none; None: the system's.

        Raises SettingError for an `egress_proxy` that cannot be used.
        """
        self.port = 0
        self._resolver = Resolver()
        self._passes = EgressGrants()
        self._guard = Guard(
            settings,
            self._passes,
            HostLimits(settings.connections_per_host),
            resolve or self._resolver,
            parse_upstream(settings.egress_proxy),
        )
        self._server: asyncio.Server | None = None
        self._closed = False
        self._connections: dict[asyncio.Task[None], Connection] = {}

    async def start(self) -> None:
        """Begins to listen."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stops listening, closes every connection at once, and waits until all are gone."""
        self._closed = True
        if self._server is not None:
            self._server.close()
        for connection in self._connections.values():
            connection.stop()
        if self._connections:
            await asyncio.wait(set(self._connections))
        if self._server is not None:
            await self._server.wait_closed()
            self._server = None
        self._resolver.close()

    def grant(
        self, holder: str, upstream: str = "", *, trusted: tuple[str, int] | None = None
    ) -> EgressGrant:
        """A pass for `holder`, a job's id (no colons); valid until revoked. `start` comes first.

        What is asked for with it goes through the proxy `upstream`, in the place of `egress_proxy`,
        unless that is empty. Raises SettingError for one that cannot be used.

        `trusted` is one host, in lower case, and port that the pass may reach directly whatever its
        address is: a server that the settings name, never one that a caller does.
        """
        chained = parse_upstream(upstream, "The proxy of a source")
        return self._passes.grant(holder, self.port, upstream=chained, trusted=trusted)

    def _accept(self) -> Stream:
        connection = Connection(self._guard)
        connection.client.on_made = partial(self._begin, connection)
        return connection.client

    def _begin(self, connection: Connection) -> None:
        if self._closed:
            connection.client.abort()
            return
        task = connection.start()
        self._connections[task] = connection
        task.add_done_callback(self._connections.pop)
