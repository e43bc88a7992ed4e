"""The address of an Ingot server, as people write it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Final

DEFAULT_ADDRESS: Final = "localhost:50051"

_PORT: Final = 50051
_TLS_PORT: Final = 443
_FORMS: Final = "Give HOST, HOST:PORT, https://HOST[:PORT] for TLS, or unix:PATH."
_HOST: Final = r"[^\s:/?#@\[\]]+"
_HOST_AND_PORT: Final = re.compile(
    rf"(?P<host>{_HOST}|\[(?P<bracketed>[^\]]*)\])(?::(?P<port>\d+))?"
)


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is reached, and how."""

    target: str
    """What gRPC connects to: `HOST:PORT` or `unix:PATH`."""
    tls: bool
    is_local: bool
    """Whether the connection stays on this machine: a Unix socket, or a loopback address."""


def parse_address(text: str) -> Address:
    """Parse `HOST[:PORT]`, `ingot://HOST[:PORT]`, `https://HOST[:PORT]` or `unix:PATH`.

    `https` means gRPC over TLS, by default on port 443; without TLS the default is port 50051. An
    IPv6 address is written in brackets if a port follows. Raises ValueError.
    """
    if text.startswith("unix:"):
        if text == "unix:":
            raise ValueError(f"{text!r} has no path. {_FORMS}")
        return Address(text, tls=False, is_local=True)
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "ingot", text
    scheme = scheme.lower()
    if scheme == "http":
        raise ValueError(f"Without TLS, the address is ingot://HOST:PORT, not {text!r}.")
    if scheme not in ("ingot", "https"):
        raise ValueError(f"{text!r} is not the address of an Ingot server. {_FORMS}")
    host, port = _split(rest.removesuffix("/") if separator else rest, text)
    tls = scheme == "https"
    port = port or (_TLS_PORT if tls else _PORT)
    return Address(f"{host}:{port}", tls=tls, is_local=_is_loopback(host))


def _split(place: str, text: str) -> tuple[str, int | None]:
    """Return the host, an IPv6 address in brackets, and the port if there is one."""
    if _is_ipv6(place):
        return f"[{place}]", None
    match = _HOST_AND_PORT.fullmatch(place)
    if match is None or (match["bracketed"] is not None and not _is_ipv6(match["bracketed"])):
        raise ValueError(f"{text!r} is not the address of an Ingot server. {_FORMS}")
    port = None if match["port"] is None else int(match["port"])
    if port is not None and not 0 < port < 65536:
        raise ValueError(f"The port of {text!r} is not between 1 and 65535.")
    return match["host"], port


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
