"""The guard behind another proxy."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import ClientSession

from ingot.v1 import reason_pb2
from ingot_server.egress.proxy import EgressProxy, failure_from_proxy_status
from ingot_server.setting_values import SettingError
from tests.integration.egress.running_proxy import (
    FakeResolver,
    Origin,
    raw_client,
    reason_for,
    running_proxy,
    serving,
    tunnel,
)


async def test_upstream_resolves_names_and_local_ones_are_refused_here(
    names: FakeResolver, origin: Origin, session: ClientSession, closed_port: int
) -> None:
    there = FakeResolver()
    there.set("far.test", ["127.0.0.1"])
    there.set("private.test", ["10.0.0.1"])
    async with running_proxy(there) as upstream:
        used = upstream.grant("the worker")
        async with running_proxy(names, egress_proxy=used.proxy_url) as proxy:
            assert await reason_for(session, proxy, origin.url("/echo", "far.test")) is None
            async with tunnel(proxy, f"far.test:{origin.port}") as (reader, writer):
                writer.write(b"GET /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                assert (await reader.read()).startswith(b"HTTP/1.1 200 OK")
            assert names.asked == []
            assert there.asked == ["far.test"] * 2
            assert origin.requests == ["/echo"] * 2
            for scheme in ("http", "https"):
                for host, reason in {
                    "private.test": reason_pb2.REASON_ADDRESS_FORBIDDEN,
                    "missing.test": reason_pb2.REASON_HOST_NOT_FOUND,
                    f"far.test:{closed_port}": reason_pb2.REASON_SOURCE_UNREACHABLE,
                }.items():
                    assert await reason_for(session, proxy, f"{scheme}://{host}/") == reason
            passed_on = used.bytes_sent, len(there.asked)
            for host in ("10.0.0.1", "printer", "db.internal", "[::ffff:a00:1]", "far.test:22"):
                refused = await reason_for(session, proxy, f"http://{host}/")
                assert refused == reason_pb2.REASON_ADDRESS_FORBIDDEN
            assert passed_on == (used.bytes_sent, len(there.asked))


async def test_a_pass_with_an_upstream_of_its_own_goes_through_that_one_alone(
    names: FakeResolver, origin: Origin, session: ClientSession
) -> None:
    there, elsewhere = FakeResolver(), FakeResolver()
    for resolver in (there, elsewhere):
        resolver.set("far.test", ["127.0.0.1"])
    async with (
        running_proxy(there) as upstream,
        running_proxy(elsewhere) as general,
        running_proxy(names, egress_proxy=general.grant("the worker").proxy_url) as proxy,
    ):
        chained = proxy.grant("chained", upstream.grant("the source").proxy_url)
        other = proxy.grant("other")
        for egress_grant in (chained, other, chained):
            url = origin.url("/echo", "far.test")
            async with session.get(url, proxy=egress_grant.proxy_url) as response:
                assert response.status == 200
        assert (len(there.asked), len(elsewhere.asked), names.asked) == (2, 1, [])
        async with session.get("http://10.0.0.1/", proxy=chained.proxy_url) as response:
            assert "destination_ip_prohibited" in response.headers["Proxy-Status"]
        with pytest.raises(SettingError, match="proxy of a source") as raised:
            proxy.grant("wrong", "socks5://name:password@127.0.0.1:1")
        assert "password" not in str(raised.value)


@pytest.mark.parametrize("fault", ["credentials", "port", "silence"])
async def test_upstream_that_cannot_be_used_is_named(
    names: FakeResolver, proxy: EgressProxy, session: ClientSession, closed_port: int, fault: str
) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")

    async with serving(hang_up) as silent_port:
        ports = {"credentials": proxy.port, "port": closed_port, "silence": silent_port}
        setting = f"http://x:y@127.0.0.1:{ports[fault]}"
        async with running_proxy(names, egress_proxy=setting) as chained:
            url = chained.grant("job").proxy_url
            async with session.get("http://far.test/", proxy=url) as response:
                failure = failure_from_proxy_status(response.headers["Proxy-Status"], "far.test")
    assert failure is not None
    assert failure.reason == reason_pb2.REASON_SOURCE_UNREACHABLE
    assert "INGOT_EGRESS_PROXY" in failure.message


async def test_upstream_gets_a_literal_as_it_was_checked(names: FakeResolver) -> None:
    asked: list[bytes] = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")[0])
        writer.write(b"HTTP/1.1 403 Forbidden\r\n\r\n")

    async with (
        serving(refuse) as port,
        running_proxy(names, egress_proxy=f"http://127.0.0.1:{port}") as proxy,
    ):
        # Octal: who reads it as decimal would reach a private address.
        for target in ("010.8.8.8:80", "[2606:4700:0::1111]:80"):
            async with raw_client(proxy, f"CONNECT {target} HTTP/1.1") as (reader, _):
                assert b"error=http_request_denied" in await reader.read()
    assert asked == [b"CONNECT 8.8.8.8:80 HTTP/1.1", b"CONNECT [2606:4700::1111]:80 HTTP/1.1"]
