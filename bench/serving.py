"""Servers in processes of their own, that those who measure start."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.installation import command_line, descendants


@asynccontextmanager
async def serving(module: str, *arguments: str) -> AsyncIterator[str]:
    """Runs a module that prints the port it listens on; yields the address `127.0.0.1:PORT`."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *arguments), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield f"127.0.0.1:{(await process.stdout.readline()).decode().strip()}"
    finally:
        process.kill()
        await process.wait()


def serving_processes(module: str) -> list[int]:
    """Process ids of what `serving` runs of a module."""
    return [pid for pid in descendants(os.getpid()) if module in command_line(pid)]
