"""A web server for the files of a directory, in a process of its own.

Each answer begins after the same delay, as that of a site far away does.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from bench.serving import serving


async def serve(directory: Path, delay: float) -> None:
    async def answer(request: web.Request) -> web.FileResponse:
        await asyncio.sleep(delay)
        return web.FileResponse(directory / Path(request.path).name)

    app = web.Application()
    app.router.add_get("/{name}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


@asynccontextmanager
async def site(directory: Path, *, delay_seconds: float = 0) -> AsyncIterator[str]:
    """Serves the files of `directory`; yields the address `http://127.0.0.1:PORT`."""
    async with serving("bench.site", str(directory), str(delay_seconds)) as address:
        yield f"http://{address}"


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), float(sys.argv[2])))
