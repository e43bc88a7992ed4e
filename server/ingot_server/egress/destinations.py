"""Where connections may lead by the settings, besides what holds for every installation.

addresses.py says which addresses are special everywhere. Here are the rules that depend on where
Ingot runs: whether loopback is open, which ports are, which networks the operator has closed, and
what belongs to Ingot itself: this machine's own addresses, and the servers that it uses.
"""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from yarl import URL

from ingot.v1 import reason_pb2
from ingot_server.config import Settings
from ingot_server.egress.addresses import (
    Address,
    address_forbidden,
    check_host,
    literal_address,
    untranslated,
    why_forbidden,
)
from ingot_server.errors import Failure
from ingot_server.networks import parse_networks
from ingot_server.port_ranges import parse_port_ranges

Resolve: TypeAlias = Callable[[str], Awaitable[Sequence[Address]]]

_DEFAULT_PORTS: Final = {"redis": 6379, "rediss": 6379, "amqp": 5672, "pyamqp": 5672, "amqps": 5671}
# Any port: nothing is sent.
_DISCARD_PORT: Final = 9


@dataclass(frozen=True, slots=True)
class _Server:
    """A server of this installation, as a setting names it."""

    host: str
    port: int

    @property
    def is_on_loopback(self) -> bool:
        if self.host == "localhost":
            return True
        address = literal_address(self.host)
        return address is not None and (address.is_loopback or address.is_unspecified)


class Destinations:
    """The hosts, addresses and ports that may be dialled."""

    def __init__(self, settings: Settings) -> None:
        self._allow_loopback = settings.egress_allow_loopback
        self._open_ports = settings.egress_ports
        self._ports = parse_port_ranges(settings.egress_ports)
        self._closed_networks = parse_networks(settings.egress_deny)
        # What these hold is not for those who name URLs. A public S3 is: it serves others, too.
        self._stores = [*_stores(settings.redis_url), *_stores(settings.broker_url)]
        servers = [
            *self._stores,
            *map(_server, (settings.s3_endpoint, settings.grpc_address, settings.http_address)),
        ]
        self._loopback_ports = {each.port for each in servers if each.is_on_loopback}

    def check(self, host: str, port: int) -> None:
        """Refuse a destination that is forbidden without a lookup.

        That is a closed port, a forbidden address or a local name. A name that passes may still
        lead to a forbidden address, which `why_forbidden` tells before it is dialled.

        Raises: ADDRESS_FORBIDDEN (metadata `host`).
        """
        check_host(host, allow_loopback=self._allow_loopback)
        address = literal_address(host)
        if address is not None and (why := self._why_closed(address, port)):
            raise address_forbidden(host, f"the address is {why}")
        if not any(port in ports for ports in self._ports):
            raise Failure(
                reason_pb2.REASON_ADDRESS_FORBIDDEN,
                f"{host[:255]} is not contacted at port {port}: the open ports are "
                f"{self._open_ports}. Use a URL with one of them; INGOT_EGRESS_PORTS opens others.",
                metadata={"host": host},
            )

    def check_url(self, url: str) -> None:
        """Refuse an http or https URL as `check` does."""
        parts = URL(url, encoded=True)
        self.check(parts.raw_host or "", parts.port or 0)

    async def why_forbidden(self, address: Address, port: int, resolve: Resolve) -> str:
        """Return why `address` must not be dialled, as the end of "the address is ..."; else empty.

        `resolve` looks up Redis and the broker, if they have the same port. Raises OSError if one
        of them has no address.
        """
        return why_forbidden(address, allow_loopback=self._allow_loopback) or (
            await self.why_withheld(address, port, resolve)
        )

    async def why_withheld(self, address: Address, port: int, resolve: Resolve) -> str:
        """Return why an address must not be dialled although it is open; else as `why_forbidden`.

        It is closed by a setting, or belongs to Ingot itself.
        """
        if why := self._why_closed(address, port):
            return why
        for store in self._stores:
            if store.port == port and address in await _addresses(store.host, resolve):
                return "that of Ingot's Redis or broker"
        return ""

    def _why_closed(self, address: Address, port: int) -> str:
        """Return why an address that is not special may not be dialled; empty if it may."""
        dialled = untranslated(address)
        if any(dialled in network for network in self._closed_networks):
            return "closed by INGOT_EGRESS_DENY"
        if dialled.is_loopback:
            return "that of a server of Ingot itself" if port in self._loopback_ports else ""
        return "this machine's own" if is_own(dialled) else ""


def is_own(address: Address) -> bool:
    """Return whether this machine has `address`: whether it would be the source of its own packets.

    A datagram socket that is connected sends nothing; the kernel chooses its address (connect(2)).
    """
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((str(address), _DISCARD_PORT))
            return ip_address(probe.getsockname()[0]) == address
    except OSError:
        return False  # There is no route to it.


async def _addresses(host: str, resolve: Resolve) -> Sequence[Address]:
    literal = literal_address(host)
    return [literal] if literal is not None else await resolve(host)


def _stores(urls: str) -> Iterator[_Server]:
    # RabbitMQ's nodes are listed as several URLs.
    for url in urls.split(";"):
        parts = urlsplit(url)
        if parts.hostname:
            yield _Server(parts.hostname, parts.port or _DEFAULT_PORTS[parts.scheme])


def _server(address: str) -> _Server:
    host, _, port = address.rpartition(":")
    return _Server(host.strip("[]"), int(port) if port.isdecimal() else 0)
