"""nginx in front of an API server, configured as docs/proxies.md says."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from ingot_server.local.ports import Ports
from ingot_server.process.launch import launch_command
from tests.waiting import TIMEOUT_SECONDS

DOCUMENTED = re.search(
    r"```nginx\n(.*?)```", (Path(__file__).parents[1] / "docs/proxies.md").read_text(), re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Proxy:
    """The addresses on which nginx listens."""

    grpc: str
    http: str


@asynccontextmanager
async def nginx(
    directory: Path, *, grpc_address: str, http_address: str, limits: str = ""
) -> AsyncIterator[Proxy]:
    """Run nginx with the documented servers in front of an API server.

    `limits` are directives for all of its servers, instead of the default limits.
    """
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        if os.environ.get("REQUIRE_ALL_SERVERS"):
            pytest.fail("nginx is not installed")
        pytest.skip("nginx is not installed")
    assert DOCUMENTED is not None
    with Ports() as ports:
        proxy = Proxy(*(f"127.0.0.1:{ports.reserve('127.0.0.1')}" for _ in range(2)))
        addresses = {
            "127.0.0.1:50052": proxy.grpc,
            "127.0.0.1:50051": grpc_address,
            "127.0.0.1:8081": proxy.http,
            "127.0.0.1:8080": http_address,
        }
        servers = re.sub(
            "|".join(map(re.escape, addresses)), lambda found: addresses[found[0]], DOCUMENTED[1]
        )
        temporary = "\n".join(
            f"{kind}_temp_path {directory}/{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        configuration = directory / "nginx.conf"
        configuration.write_text(
            f"pid {directory}/pid;\ndaemon off;\nmaster_process off;\nevents {{}}\n"
            f"http {{\naccess_log off;\n{limits}\n{temporary}\n{servers}\n}}\n"
        )
        process = await asyncio.create_subprocess_exec(
            *launch_command(program, "-c", str(configuration), "-e", "stderr")
        )
        try:
            await until_listening(proxy.http)
            yield proxy
        finally:
            process.terminate()
            await process.wait()


async def until_listening(address: str) -> None:
    host, _, port = address.rpartition(":")
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while True:
            try:
                _, writer = await asyncio.open_connection(host, int(port))
            except ConnectionRefusedError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return
