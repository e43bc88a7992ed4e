"""Passes: who may use the guard, what came through for them, and how that is ended."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from typing import Protocol
from urllib.parse import quote

from ingot_server.egress.upstream import Upstream


class Tunnel(Protocol):
    """One connection that a pass was shown for."""

    @property
    def bytes_received(self) -> int: ...
    @property
    def bytes_sent(self) -> int: ...
    def stop(self) -> None:
        """Closes both of its ends now."""


class EgressGrant:
    """The right to use the guard, for one job. All of it belongs to the guard's event loop."""

    def __init__(
        self,
        holder: str,
        port: int,
        forget: Callable[[EgressGrant], None],
        upstream: Upstream | None,
        trusted: tuple[str, int] | None,
    ) -> None:
        self.holder = holder
        self.upstream = upstream
        self._trusted = trusted
        self._token = secrets.token_urlsafe(24)
        self._port = port
        self._forget = forget
        self._passages: set[Tunnel] = set()
        self._received_before = 0
        self._sent_before = 0

    def __repr__(self) -> str:
        return f"EgressGrant({self.holder!r})"

    @property
    def proxy_url(self) -> str:
        """What an HTTP client takes as its proxy: http://HOLDER:TOKEN@127.0.0.1:PORT. A secret."""
        return f"http://{quote(self.holder, safe='')}:{self._token}@127.0.0.1:{self._port}"

    @property
    def bytes_received(self) -> int:
        """Bytes that came from origins so far, heads and TLS included."""
        return self._received_before + sum(item.bytes_received for item in self._passages)

    @property
    def bytes_sent(self) -> int:
        """Bytes that went to origins so far, heads and TLS included."""
        return self._sent_before + sum(item.bytes_sent for item in self._passages)

    def trusts(self, host: str, port: int) -> bool:
        """Whether the pass may reach this host whatever its address is."""
        return (host, port) == self._trusted

    def admits(self, token: str) -> bool:
        return hmac.compare_digest(token.encode(), self._token.encode())

    def revoke(self) -> None:
        """Ends the pass: its connections are closed at once and no new ones are made.

        Revoking again does nothing. Not from another thread than the event loop's.
        """
        self._forget(self)
        for passage in tuple(self._passages):
            passage.stop()

    def enter(self, passage: Tunnel) -> None:
        self._passages.add(passage)

    def leave(self, passage: Tunnel) -> None:
        if passage in self._passages:
            self._passages.discard(passage)
            self._received_before += passage.bytes_received
            self._sent_before += passage.bytes_sent


class EgressGrants:
    """The valid passes, by holder; one holder may have several, as a job's attempts do."""

    def __init__(self) -> None:
        self._valid: dict[str, set[EgressGrant]] = {}

    def grant(
        self,
        holder: str,
        port: int,
        *,
        upstream: Upstream | None = None,
        trusted: tuple[str, int] | None = None,
    ) -> EgressGrant:
        """A new pass; `upstream` is a proxy of its own that its traffic goes through."""
        if ":" in holder:
            raise ValueError("RFC 7617 has no way to write a user with a colon.")
        made = EgressGrant(holder, port, self._forget, upstream, trusted)
        self._valid.setdefault(holder, set()).add(made)
        return made

    def find(self, credentials: str) -> EgressGrant | None:
        """The pass of `HOLDER:TOKEN`."""
        holder, _, token = credentials.rpartition(":")
        return next((item for item in self._valid.get(holder, ()) if item.admits(token)), None)

    def _forget(self, ended: EgressGrant) -> None:
        valid = self._valid.get(ended.holder, set())
        valid.discard(ended)
        if not valid:
            self._valid.pop(ended.holder, None)
