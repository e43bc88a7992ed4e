"""Which HTTP responses have no end. Imports nothing, because the extraction child uses it too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_PREFIXES: Final = ("icy-", "ice-")


def is_live_stream(headers: Mapping[str, str]) -> bool:
    """Return whether the response with these headers is radio, from SHOUTcast or Icecast.

    They announce the station instead of a length. A file that Icecast serves has both.
    """
    names = [name.lower() for name in headers]
    return "content-length" not in names and any(name.startswith(_PREFIXES) for name in names)
