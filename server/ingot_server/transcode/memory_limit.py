"""How much memory a conversion gets, by the size of the machine."""

from __future__ import annotations

from typing import Final

from ingot_server.config import Settings

_LARGEST: Final = 4 << 30
# A picture that is as large as allowed, with what ffmpeg needs besides.
_LEAST: Final = 1 << 30


def conversion_memory_bytes(settings: Settings, machine_bytes: int) -> int:
    """Return how much address space ffmpeg gets on a machine, or in a container, of that size."""
    if settings.conversion_memory:
        return int(settings.conversion_memory)
    return max(_LEAST, min(_LARGEST, machine_bytes // 2))
