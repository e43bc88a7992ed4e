"""Waiting for what nothing tells of: what the kernel, another process or connection does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

PATIENCE_SECONDS = 60.0
"""Far above what a busy machine takes."""


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110 - there is nothing to await
            await asyncio.sleep(0.01)
