"""Where the guard connects to, and where it does not."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import ClientHttpProxyError, ClientSession

from ingot.v1 import reason_pb2
from ingot_server.config import Settings
from ingot_server.egress.proxy import EgressProxy
from tests.integration.egress.running_proxy import FakeResolver, Origin, reason_for, running_proxy

NAMESPACE = ("unshare", "--user", "--map-root-user", "--net")


@pytest.mark.parametrize("credentials", ["", "job:wrong@", "nobody:TOKEN@", "job@"])
async def test_no_pass_no_way(
    proxy: EgressProxy, origin: Origin, session: ClientSession, credentials: str
) -> None:
    token = proxy.grant("job").proxy_url.partition("@")[0].rpartition(":")[2]
    url = f"http://{credentials.replace('TOKEN', token)}127.0.0.1:{proxy.port}"
    async with session.get(origin.url("/echo"), proxy=url) as response:
        assert response.status == 407
        assert response.headers["Proxy-Authenticate"] == 'Basic realm="ingot-egress"'
    with pytest.raises(ClientHttpProxyError) as caught:
        await session.get("https://origin.test/", proxy=url)
    assert caught.value.status == 407
    assert origin.requests == []


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    "host",
    [
        "10.0.0.1",
        "169.254.169.254",
        "0x0a.1",
        "[::ffff:127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[fe80::1]",
        "printer",
        "db.internal",
        "private.test",
        "metadata.test",
    ],
)
async def test_forbidden_host_is_refused_and_not_dialled(
    names: FakeResolver,
    proxy: EgressProxy,
    session: ClientSession,
    dialled: list[Any],
    scheme: str,
    host: str,
) -> None:
    names.set("private.test", ["192.168.1.1", "10.0.0.1", "fd00::1"])
    names.set("metadata.test", ["169.254.169.254"])
    url = f"{scheme}://{host}/"
    assert await reason_for(session, proxy, url) == reason_pb2.REASON_ADDRESS_FORBIDDEN
    assert {address[1] for address in dialled} == {proxy.port}


async def test_loopback_is_refused_unless_opened(
    names: FakeResolver, origin: Origin, session: ClientSession
) -> None:
    async with running_proxy(names, egress_allow_loopback=False) as proxy:
        for host in ("127.0.0.1", "localhost", "origin.test", "2130706433", "[::1]"):
            reason = await reason_for(session, proxy, origin.url("/echo", host))
            assert reason == reason_pb2.REASON_ADDRESS_FORBIDDEN
    assert origin.requests == []


@pytest.mark.skipif(
    subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode != 0,
    reason="this machine allows no user namespaces",
)
async def test_an_address_of_this_machine_is_refused() -> None:
    module = "tests.integration.egress.own_address"
    process = await asyncio.create_subprocess_exec(
        *(*NAMESPACE, sys.executable, "-m", module, "8.8.4.4"), stdout=subprocess.PIPE
    )
    output, _ = await process.communicate()
    refused = "Proxy-Status: ingot-egress; error=destination_ip_prohibited"
    assert output.decode().splitlines() == ["hello", refused, refused]


async def test_a_port_that_is_not_open_is_refused(
    names: FakeResolver, origin: Origin, session: ClientSession
) -> None:
    async with running_proxy(names, egress_ports=f"80,{origin.port}") as proxy:
        assert await reason_for(session, proxy, origin.url("/echo")) is None
        for url in ("http://origin.test:22/", "https://origin.test/"):
            reason = await reason_for(session, proxy, url)
            assert reason == reason_pb2.REASON_ADDRESS_FORBIDDEN
    assert origin.requests == ["/echo"]


async def test_redis_is_refused_by_its_address_whatever_name_leads_to_it(
    names: FakeResolver, origin: Origin, session: ClientSession
) -> None:
    names.set("cache.test", ["127.0.0.1"])
    url = f"redis://cache.test:{origin.port}/0"
    async with running_proxy(names, redis_url=url) as proxy:
        reason = await reason_for(session, proxy, origin.url("/echo"))
        assert reason == reason_pb2.REASON_ADDRESS_FORBIDDEN
    assert origin.requests == []


async def test_only_the_permitted_of_a_names_addresses_is_dialled(
    names: FakeResolver,
    proxy: EgressProxy,
    origin: Origin,
    session: ClientSession,
    dialled: list[Any],
) -> None:
    names.set("mixed.test", ["10.0.0.1", "127.0.0.1", "169.254.169.254"])
    assert await reason_for(session, proxy, origin.url("/echo", "mixed.test")) is None
    assert origin.requests == ["/echo"]
    assert {address[0] for address in dialled} == {"127.0.0.1"}


async def test_name_that_changes_its_answer_gains_nothing(
    names: FakeResolver, proxy: EgressProxy, origin: Origin, session: ClientSession
) -> None:
    names.set("rebind.test", ["127.0.0.1"], ["10.0.0.1"])
    url = origin.url("/echo", "rebind.test")
    assert await reason_for(session, proxy, url) is None
    # Asked once: what was checked was dialled.
    assert names.asked == ["rebind.test"]
    assert await reason_for(session, proxy, url) == reason_pb2.REASON_ADDRESS_FORBIDDEN


async def test_redirect_to_a_forbidden_address_is_refused(
    proxy: EgressProxy, origin: Origin, session: ClientSession
) -> None:
    url = origin.url("/away?to=http://10.0.0.1/")
    assert await reason_for(session, proxy, url) == reason_pb2.REASON_ADDRESS_FORBIDDEN


async def test_next_address_is_tried_when_one_does_not_answer(
    names: FakeResolver, proxy: EgressProxy, origin: Origin, session: ClientSession
) -> None:
    names.set("two.test", ["::1", "127.0.0.2", "127.0.0.1"])
    assert await reason_for(session, proxy, origin.url("/echo", "two.test")) is None


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_unreachable_source_has_its_reason(
    names: FakeResolver, proxy: EgressProxy, session: ClientSession, closed_port: int, scheme: str
) -> None:
    names.set("empty.test", [])
    for host in ("missing.test", "empty.test", "a" * 64 + ".test"):
        reason = await reason_for(session, proxy, f"{scheme}://{host}/")
        assert reason == reason_pb2.REASON_HOST_NOT_FOUND
    url = f"{scheme}://origin.test:{closed_port}/"
    assert await reason_for(session, proxy, url) == reason_pb2.REASON_SOURCE_UNREACHABLE


async def test_name_that_takes_too_long_to_look_up_is_not_found(
    names: FakeResolver, session: ClientSession
) -> None:
    # The request has to come within that time, too.
    async with running_proxy(names, connect_timeout=timedelta(seconds=2)) as proxy:
        reason = await reason_for(session, proxy, "http://slow.test/")
        assert reason == reason_pb2.REASON_HOST_NOT_FOUND


async def test_systems_resolver_is_used_when_none_is_handed_in(
    origin: Origin, session: ClientSession
) -> None:
    proxy = EgressProxy(Settings(egress_allow_loopback=True))
    await proxy.start()
    assert await reason_for(session, proxy, origin.url("/echo", "localhost")) is None
    await proxy.close()
