"""The networks that a setting names."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_network


def parse_networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    """Parse addresses and networks in CIDR notation, separated by commas. Raises ValueError."""
    return tuple(ip_network(part) for item in text.split(",") if (part := item.strip()))
