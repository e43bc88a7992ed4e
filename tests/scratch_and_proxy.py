"""A scratch directory and an egress proxy with short timeouts, for tests that receive files."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from ingot_server.config import Settings
from ingot_server.egress.proxy import EgressProxy
from ingot_server.setting_values import ByteSize
from ingot_server.transfer.scratch import Scratch

SECOND = timedelta(seconds=1)


def quick_settings(directory: Path) -> Settings:
    """Settings with scratch in `directory`, with short waits and little room."""
    return Settings(
        scratch_dir=directory / "scratch",
        scratch_reserve=ByteSize(0),
        connect_timeout=SECOND,
        stall_timeout=SECOND / 2,
        stall_rate=ByteSize(1000),
        max_media_size=ByteSize(8 << 20),
    )


@asynccontextmanager
async def scratch_and_proxy(settings: Settings) -> AsyncIterator[tuple[Scratch, EgressProxy]]:
    """Both, running."""
    scratch, egress = Scratch(settings), EgressProxy(settings)
    await scratch.start()
    await egress.start()
    try:
        yield scratch, egress
    finally:
        await egress.close()
        await scratch.close()
