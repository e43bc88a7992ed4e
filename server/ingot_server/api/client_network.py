"""What limits per address are counted by: an IPv4 address, or the network of an IPv6 address."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import Final

# The provider gives a customer this much, and the customer chooses addresses in it.
_IPV6_NETWORK: Final = 64


@lru_cache(4096)
def client_network(address: str) -> str:
    """Return an IPv4 address as it is, also one in IPv6, and the /64 of another IPv6 address.

    A zone (`%eth0`) is ignored. Raises ValueError for anything else.
    """
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found, _IPV6_NETWORK), strict=False))
