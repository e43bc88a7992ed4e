"""Which addresses may be dialled: global unicast addresses that hide no other address inside.

The tables follow IANA's special-purpose registries (RFC 6890; iana-ipv4-special-registry and
iana-ipv6-special-registry at iana.org) and are kept here, because `ipaddress.is_global` differs
between Python releases. They are stricter than the registries where a block is globally
reachable but does not serve media (all of 2001::/23, 192.0.0.0/24).

IPv6 is open only inside 2000::/3, the one block IANA hands out as global unicast (RFC 4291, 2.4;
iana ipv6-address-space), less what is special there. One exception: 64:ff9b::/96 is how a host
without IPv4 reaches IPv4 (RFC 6052), so the IPv4 address in it decides. A translation prefix that
a network chose for itself (RFC 6052, 2.2) looks like any other address, so it is not recognized.
"""

from __future__ import annotations

import re
import unicodedata
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final, TypeAlias

from ingot.v1 import reason_pb2
from ingot_server.errors import Failure

Address: TypeAlias = IPv4Address | IPv6Address

LOOPBACK_HINT: Final = "INGOT_EGRESS_ALLOW_LOOPBACK=on opens loopback, for trying Ingot out"

_LOOPBACK_IPV4: Final = IPv4Network("127.0.0.0/8")
_LOOPBACK_IPV6: Final = IPv6Address("::1")
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
_NAT64: Final = IPv6Network("64:ff9b::/96")

# The first match counts, so a narrower block stands before a wider one.
_SPECIAL_IPV4: Final = tuple(
    (IPv4Network(network), why)
    for network, why in (
        ("0.0.0.0/8", "unspecified (RFC 791)"),
        ("10.0.0.0/8", "private (RFC 1918)"),
        ("100.64.0.0/10", "a carrier's or cloud's own (RFC 6598)"),
        ("127.0.0.0/8", "loopback (RFC 1122)"),
        ("168.63.129.16/32", "Azure's platform service"),
        ("169.254.169.254/32", "a cloud's metadata service"),
        ("169.254.0.0/16", "link-local (RFC 3927)"),
        ("172.16.0.0/12", "private (RFC 1918)"),
        ("192.0.0.0/24", "reserved for protocols (RFC 6890)"),
        ("192.0.2.0/24", "for documentation (RFC 5737)"),
        ("192.88.99.0/24", "a 6to4 relay (RFC 7526)"),
        ("192.168.0.0/16", "private (RFC 1918)"),
        ("198.18.0.0/15", "for benchmarks (RFC 2544)"),
        ("198.51.100.0/24", "for documentation (RFC 5737)"),
        ("203.0.113.0/24", "for documentation (RFC 5737)"),
        ("224.0.0.0/4", "multicast (RFC 5771)"),
        ("255.255.255.255/32", "broadcast (RFC 919)"),
        ("240.0.0.0/4", "reserved (RFC 1112)"),
    )
)
_SPECIAL_IPV6: Final = tuple(
    (IPv6Network(network), why)
    for network, why in (
        ("::/128", "unspecified (RFC 4291)"),
        ("::1/128", "loopback (RFC 4291)"),
        ("::/96", "an IPv4 address inside IPv6 (compatible, RFC 4291)"),
        ("::ffff:0:0/96", "an IPv4 address inside IPv6 (mapped, RFC 4291)"),
        ("64:ff9b:1::/48", "a local translation to IPv4 (RFC 8215)"),
        ("100::/64", "discarded (RFC 6666)"),
        ("2001::/32", "an IPv4 address inside IPv6 (Teredo, RFC 4380)"),
        ("2001:2::/48", "for benchmarks (RFC 5180)"),
        ("2001:10::/28", "an identifier and not an address (ORCHID, RFC 4843)"),
        ("2001:20::/28", "an identifier and not an address (ORCHIDv2, RFC 7343)"),
        ("2001::/23", "reserved for protocols (RFC 2928)"),
        ("2001:db8::/32", "for documentation (RFC 3849)"),
        ("2002::/16", "an IPv4 address inside IPv6 (6to4, RFC 3056)"),
        ("3fff::/20", "for documentation (RFC 9637)"),
        ("5f00::/16", "a segment identifier and not an address (SRv6, RFC 9602)"),
        ("fd00:ec2::254/128", "a cloud's metadata service"),
        ("fc00::/7", "private (RFC 4193)"),
        ("fe80::/10", "link-local (RFC 4291)"),
        ("fec0::/10", "site-local (RFC 3879)"),
        ("ff00::/8", "multicast (RFC 4291)"),
    )
)
# Bits 32 to 63 of an address made by ISATAP, with a private and a public IPv4 (RFC 5214, 6.1).
_ISATAP: Final = frozenset({0x00005EFE, 0x02005EFE})

_LOOPBACK_NAMES: Final = ("localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback")
_LOCAL_ENDINGS: Final = {
    "localhost": "this machine (RFC 6761)",
    "local": "the local network (RFC 6762)",
    "home.arpa": "the local network (RFC 8375)",
    "internal": "an organisation's own network (ICANN, 2024)",
    "intranet": "an organisation's own network (RFC 6762, appendix G)",
    "private": "an organisation's own network (RFC 6762, appendix G)",
    "corp": "an organisation's own network (RFC 6762, appendix G)",
    "home": "the local network (RFC 6762, appendix G)",
    "lan": "the local network (RFC 6762, appendix G)",
    "localdomain": "this machine",
    "svc": "a Kubernetes cluster",
}


def is_forbidden(address: Address, *, allow_loopback: bool) -> bool:
    """Return whether `address` must never be dialled; `why_forbidden` gives the reason."""
    return why_forbidden(address, allow_loopback=allow_loopback) != ""


def why_forbidden(address: Address, *, allow_loopback: bool) -> str:
    """Return why `address` must not be dialled, as the end of "the address is ..."; else empty.

    `allow_loopback` opens 127.0.0.0/8 and ::1 as such. Their forms hidden in other IPv6 addresses
    stay forbidden: the only use of these forms is to get around a rule.
    """
    if isinstance(address, IPv4Address):
        if allow_loopback and address in _LOOPBACK_IPV4:
            return ""
        return next((why for network, why in _SPECIAL_IPV4 if address in network), "")
    if address.scope_id is not None:
        return "bound to one network interface (RFC 4007)"
    if allow_loopback and address == _LOOPBACK_IPV6:
        return ""
    number = int(address)
    if address in _NAT64:
        hidden = why_forbidden(untranslated(address), allow_loopback=False)
        return hidden and f"a translation (RFC 6052) to one that is {hidden}"
    if number >> 32 & 0xFFFFFFFF in _ISATAP:
        return "an IPv4 address inside IPv6 (ISATAP, RFC 5214)"
    for network, why in _SPECIAL_IPV6:
        if address in network:
            return why
    return "" if address in _GLOBAL_UNICAST else "outside global unicast (RFC 4291)"


def untranslated(address: Address) -> Address:
    """Return the IPv4 address that `address` is translated to (RFC 6052), or `address` itself."""
    if isinstance(address, IPv6Address) and address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def literal_address(host: str) -> Address | None:
    """Return the address that `host` spells out; None if `host` is a name.

    Accepts every spelling that another program may accept: IPv6 with and without brackets, IPv4 as
    inet_aton(3) reads it (`127.1`, `0x7f.1`, `0177.0.0.1`, `2130706433`), with a dot at the end,
    and in Unicode's other digits and dots (UTS #46 maps them to these).
    """
    text = unicodedata.normalize("NFKC", host).replace("\u3002", ".")
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]
    if ":" in text:
        try:
            return IPv6Address(text)
        except ValueError:
            return None
    numbers = [_aton_number(part) for part in text.removesuffix(".").split(".")]
    *leading, last = numbers
    if len(numbers) > 4 or last is None or last >= 256 ** (5 - len(numbers)):
        return None
    value = last
    for position, number in enumerate(leading):
        if number is None or number > 255:
            return None
        value |= number << (24 - 8 * position)
    return IPv4Address(value)


def check_host(host: str, *, allow_loopback: bool) -> None:
    """Refuse a host that is forbidden without a lookup: a forbidden address or a local name.

    A name that passes may still lead to a forbidden address, which is checked before it is dialled.

    Raises: ADDRESS_FORBIDDEN (metadata `host`).
    """
    address = literal_address(host)
    if address is not None:
        why = why_forbidden(address, allow_loopback=allow_loopback)
        if why:
            raise address_forbidden(host, f"the address is {why}")
    elif why := _why_name_forbidden(host, allow_loopback=allow_loopback):
        raise address_forbidden(host, why)


def address_forbidden(host: str, why: str) -> Failure:
    """Return the failure of a host that must not be dialled; `why` completes its message."""
    return Failure(
        reason_pb2.REASON_ADDRESS_FORBIDDEN,
        f"{host[:255]} is never contacted: {why}. Use a URL whose host has a public address; "
        f"{LOOPBACK_HINT}.",
        metadata={"host": host},
    )


def _why_name_forbidden(host: str, *, allow_loopback: bool) -> str:
    """Return why a host name is refused without a lookup; empty if it is not."""
    name = unicodedata.normalize("NFKC", host).replace("\u3002", ".").rstrip(".").lower()
    if allow_loopback and (name in _LOOPBACK_NAMES or name.endswith(".localhost")):
        return ""
    # Top-level domains are not numbers, so another program may read this name as an address.
    if ":" in name or re.fullmatch(r"[0-9]+|0x[0-9a-f]*", name.rpartition(".")[2]):
        return "it is a malformed IP address"
    for ending, owner in _LOCAL_ENDINGS.items():
        if name == ending or name.endswith("." + ending):
            return f"the name belongs to {owner}"
    return "" if "." in name else "a name without a dot belongs to the local network"


def _aton_number(text: str) -> int | None:
    """Return one part of an IPv4 address: decimal, octal after `0`, hexadecimal after `0x`."""
    if len(text) > 64:
        return None
    if re.fullmatch(r"0[xX][0-9a-fA-F]*", text):
        return int(text[2:] or "0", 16)
    if re.fullmatch(r"0[0-7]*", text):
        return int(text, 8)
    if re.fullmatch(r"[1-9][0-9]*", text):
        return int(text)
    return None
