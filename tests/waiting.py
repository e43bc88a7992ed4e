"""Waiting for what sends no event: the kernel, another process, another connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

TIMEOUT_SECONDS = 60.0
"""The limit of one wait, well above what it takes on a busy machine."""

JOB_SECONDS = 120.0
"""The limit of one job, from its start to its end."""


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while not condition():  # noqa: ASYNC110 - there is nothing to await
            await asyncio.sleep(0.01)
