"""The ports that a setting names: numbers and ranges."""

from __future__ import annotations

import re
from typing import Final

_PORTS: Final = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?")
_LAST_PORT: Final = 65535


def parse_port_ranges(text: str) -> tuple[range, ...]:
    """Parse ports such as `80,443,1024-65535`, at least one. Raises ValueError."""
    found = []
    for part in (part.strip() for part in text.split(",")):
        match = _PORTS.fullmatch(part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= first <= last <= _LAST_PORT:
            raise ValueError(f"`{part}` is neither a port nor a range of ports")
        found.append(range(first, last + 1))
    return tuple(found)
