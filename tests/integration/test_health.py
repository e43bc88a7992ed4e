"""`ingot-server health` asks the API server of its own machine, whatever it listens with."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ingot_server.app import running
from ingot_server.config import Settings
from ingot_server.health import require_health
from ingot_server.heartbeat import Unhealthy
from tests.certificates import Authority

pytestmark = pytest.mark.any_stores


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
@pytest.mark.parametrize("tls", ["", "server", "both"])
async def test_it_reaches_a_server(settings: Settings, tmp_path: Path, host: str, tls: str) -> None:
    if tls:
        authority = Authority(tmp_path)
        pair = authority.issue("server")
        settings = settings.replace(
            tls_certificate_file=str(pair.certificate),
            tls_key_file=str(pair.key),
            tls_client_ca_file=str(authority.file) if tls == "both" else "",
        )
    async with running(settings.replace(grpc_address=f"{host}:0")) as addresses:
        found = settings.replace(grpc_address=addresses.grpc)
        await asyncio.to_thread(require_health, found, live=False)
    with pytest.raises(Unhealthy, match="UNAVAILABLE"):
        await asyncio.to_thread(require_health, found, live=False)
