"""Which hosts a request may name: the names of this server, so that no other name leads to it.

A page of evil.example can let that name point to 127.0.0.1, after the browser has loaded it ("DNS
rebinding"). To the browser, this server is then the page's own, and the page may read and change
everything. Only the Host of its requests shows it. An address instead of a name cannot be rebound.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from ingot_server.setting_values import SettingError

_NAME: Final = re.compile(r"(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*")
_PORT: Final = re.compile(r":\d*$")
_ANY: Final = "*"


class Hosts:
    """The hosts of a server that listens on `http_address`, HOST:PORT.

    localhost and the names below it, and the addresses of loopback, are always its own. Beyond
    loopback every other address is, too, and every name unless `http_hosts` lists names: `*.`
    before a name stands for all below it, and `*` for all. Raises SettingError for what is neither.
    """

    def __init__(self, http_hosts: str, http_address: str) -> None:
        named = http_hosts.lower().replace(",", " ").split()
        for name in named:
            if name != _ANY and not _NAME.fullmatch(name):
                raise SettingError(
                    f"INGOT_HTTP_HOSTS has {name!r}, which is not the name of a host. Write names "
                    "without scheme and port, such as media.example.com or *.example.com."
                )
        self._loopback = is_loopback(host_of(http_address))
        self._names = frozenset(name for name in named if not name.startswith("*."))
        self._suffixes = tuple(name[1:] for name in named if name.startswith("*."))
        self._any = _ANY in self._names or not (named or self._loopback)

    def allows(self, host: str) -> bool:
        """Return whether a request may have `host`, HOST or HOST:PORT, as its Host."""
        name = host_of(host)
        if self._any or is_loopback(name) or self.names(name):
            return True
        return not self._loopback and _is_address(name)

    def names(self, host: str) -> bool:
        """Return whether `http_hosts` lists `host`, HOST or HOST:PORT."""
        name = host_of(host)
        return name in self._names or name.endswith(self._suffixes)


def host_of(host: str) -> str:
    """Return HOST or HOST:PORT without the port, the brackets of IPv6 and the final dot."""
    return _PORT.sub("", host.lower()).strip("[]").removesuffix(".")


def is_loopback(name: str) -> bool:
    """Return whether a host, as `host_of` returns it, is this machine and no other."""
    if name == "localhost" or name.endswith(".localhost"):  # RFC 6761, section 6.3
        return True
    return _is_address(name) and ipaddress.ip_address(name).is_loopback


def is_every_address(name: str) -> bool:
    """Return whether a host, as `host_of` returns it, stands for all addresses of a machine."""
    return not name or (_is_address(name) and ipaddress.ip_address(name).is_unspecified)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
