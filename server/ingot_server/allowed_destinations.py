"""What INGOT_EGRESS_ALLOW names: destinations of the operator's own that may be private."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import Final

_HOST_AND_PORT: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+):(\d{1,5})")


@dataclass(frozen=True, slots=True)
class AllowedDestinations:
    """Hosts, in lower case and with their ports, and networks."""

    hosts: frozenset[tuple[str, int]] = frozenset()
    networks: tuple[IPv4Network | IPv6Network, ...] = ()

    def names(self, host: str, port: int) -> bool:
        """Return whether `host`, in lower case, is named with `port`."""
        return (host, port) in self.hosts

    def contains_all(self, addresses: Iterable[IPv4Address | IPv6Address]) -> bool:
        """Return whether there are addresses, and all of them are in the networks."""
        found = list(addresses)
        return bool(found) and all(
            any(address in network for network in self.networks) for address in found
        )


def parse_allowed_destinations(text: str) -> AllowedDestinations:
    """Parse HOST:PORT and networks in CIDR notation, separated by commas. Raises ValueError."""
    hosts, networks = set[tuple[str, int]](), list[IPv4Network | IPv6Network]()
    for part in filter(None, (part.strip() for part in text.split(","))):
        if match := _HOST_AND_PORT.fullmatch(part):
            hosts.add((match[1].strip("[]").lower(), int(match[2])))
            continue
        try:
            networks.append(ip_network(part))
        except ValueError:
            raise ValueError(f"`{part}` is neither HOST:PORT nor a network") from None
    return AllowedDestinations(frozenset(hosts), tuple(networks))
