"""TLS on both ports of the API server, with certificates that are renewed while it runs."""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from ingot import AccessDenied, Client, IngotError, ServiceUnavailable
from ingot_server.access_tokens import entry, new_token
from ingot_server.app import Addresses, running
from ingot_server.config import Settings
from tests.certificates import Authority, Pair
from tests.ingot_command import run_command

pytestmark = pytest.mark.any_stores


@asynccontextmanager
async def serving(settings: Settings, pair: Pair, clients: str = "") -> AsyncIterator[Addresses]:
    """An API server with this certificate. `clients` is the file of its clients' authority."""
    secured = settings.replace(
        tls_certificate_file=str(pair.certificate),
        tls_key_file=str(pair.key),
        tls_client_ca_file=clients,
    )
    async with running(secured) as addresses:
        yield addresses


def context(authority: Path, pair: Pair | None = None) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=str(authority))
    if pair is not None:
        made.load_cert_chain(pair.certificate, pair.key)
    return made


async def health(addresses: Addresses, tls: ssl.SSLContext) -> str:
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"https://{addresses.http}/healthz", ssl=tls) as response,
    ):
        return await response.text()


async def grpc_health(addresses: Addresses, authority: Path, pair: Pair) -> str:
    credentials = grpc.ssl_channel_credentials(
        authority.read_bytes(), pair.key.read_bytes(), pair.certificate.read_bytes()
    )
    async with grpc.aio.secure_channel(addresses.grpc, credentials) as channel:
        stub: Any = HealthStub(channel)
        found = await stub.Check(HealthCheckRequest())
    return str(HealthCheckResponse.ServingStatus.Name(found.status))


def client(
    addresses: Addresses, authority: Path, pair: Pair | None = None, token: str = ""
) -> Client:
    return Client(
        f"https://{addresses.grpc}",
        token=token,
        ca_file=authority,
        certificate_file=pair.certificate if pair else "",
        key_file=pair.key if pair else "",
    )


async def sources(addresses: Addresses, authority: Path, pair: Pair | None = None) -> int:
    """How many sources a new client lists."""
    async with client(addresses, authority, pair) as connected:
        return len(await connected.sources())


async def test_both_ports_have_tls_and_nothing_else(settings: Settings, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    async with serving(settings, authority.issue("server")) as addresses:
        assert await sources(addresses, authority.file) > 0
        assert await health(addresses, context(authority.file)) == "serving\n"

        async with aiohttp.ClientSession() as http:
            with pytest.raises(aiohttp.ClientConnectionError):
                await http.get(f"http://{addresses.http}/healthz")
        result = await run_command(addresses.grpc, "sources")
        assert result.code == 1
        assert "a server that expects TLS" in result.stderr


async def test_a_renewed_certificate_is_used_without_a_restart(
    settings: Settings, tmp_path: Path
) -> None:
    before, after = Authority(tmp_path, "before"), Authority(tmp_path, "after")
    pair = before.issue("server")
    async with serving(settings, pair) as addresses:
        assert await sources(addresses, before.file) > 0

        pair.replace(after.issue("server"))

        assert await health(addresses, context(after.file)) == "serving\n"
        assert await sources(addresses, after.file) > 0
        with pytest.raises(ssl.SSLError):
            await health(addresses, context(before.file))


async def test_a_broken_renewal_keeps_the_old_certificate_and_logs_one_line(
    settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    authority = Authority(tmp_path)
    pair, other = authority.issue("server"), authority.issue("server")
    async with serving(settings, pair) as addresses:
        caplog.clear()
        for break_it in (
            lambda: other.key.replace(pair.key),
            lambda: pair.certificate.write_text("junk"),
            pair.certificate.unlink,
        ):
            break_it()
            for _ in range(2):
                assert await sources(addresses, authority.file) > 0
                assert await health(addresses, context(authority.file)) == "serving\n"
        lines = [each.message for each in caplog.records if each.levelno >= logging.ERROR]
        assert len(lines) == 3
        assert all("stays in use" in line for line in lines)
        assert "PRIVATE" not in "".join(lines)

        pair.replace(authority.issue("server"))
        assert await health(addresses, context(authority.file)) == "serving\n"


async def test_clients_need_a_certificate_if_the_server_knows_their_authority(
    settings: Settings, tmp_path: Path
) -> None:
    authority, strange = Authority(tmp_path), Authority(tmp_path, "strange")
    known, unknown = authority.issue("client"), strange.issue("client")
    pair = authority.issue("server")
    async with serving(settings, pair, str(authority.file)) as addresses:
        assert await sources(addresses, authority.file, known) > 0
        assert await health(addresses, context(authority.file, known)) == "serving\n"
        assert (
            await run_command(
                f"https://{addresses.grpc}",
                *("sources", "--ca", authority.file),
                *("--certificate", known.certificate, "--key", known.key),
            )
        ).code == 0

        for refused in (None, unknown):
            with pytest.raises(IngotError) as failed:
                await sources(addresses, authority.file, refused)
            assert isinstance(failed.value, ServiceUnavailable)
            with pytest.raises((aiohttp.ClientError, ssl.SSLError, ConnectionError)):
                await health(addresses, context(authority.file, refused))


async def test_a_certificate_says_who_calls_and_a_setting_what_such_callers_may_do(
    settings: Settings, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    pair, known = authority.issue("server"), authority.issue("client")
    limited, token = settings.replace(certificate_scopes="read"), new_token()
    with_tokens = limited.replace(tokens=entry(token, "ci", ["delete"], None))
    closed = with_tokens.replace(open_services="")
    for server_settings in (limited, with_tokens, closed):
        async with serving(server_settings, pair, str(authority.file)) as addresses:
            assert await sources(addresses, authority.file, known) > 0
            async with client(addresses, authority.file, known) as connected:
                with pytest.raises(AccessDenied, match="`delete`, which localhost does not"):
                    await connected.delete_media("unknown")
            tls = context(authority.file, known)
            async with aiohttp.ClientSession(f"https://{addresses.http}") as http:
                delete = "/ingot.v1.MediaService/DeleteMedia"
                async with http.post(delete, json={}, ssl=tls) as response:
                    assert response.status == 403
                    assert "which localhost does not" in (await response.json())["message"]
                async with http.get("/session", ssl=tls) as response:
                    assert await response.json() == {"name": "localhost", "scopes": ["read"]}
            assert await health(addresses, tls) == "serving\n"
            assert await grpc_health(addresses, authority.file, known) == "SERVING"

    async with (
        serving(with_tokens, pair, str(authority.file)) as addresses,
        client(addresses, authority.file, known, token) as connected,
    ):
        with pytest.raises(AccessDenied, match="`read`, which ci does not"):
            await connected.sources()

    unlimited = with_tokens.replace(certificate_scopes="")
    async with serving(unlimited, pair, str(authority.file)) as addresses:
        with pytest.raises(IngotError, match="asks who calls"):
            await sources(addresses, authority.file, known)
