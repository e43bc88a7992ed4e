"""Which destinations the settings close, besides those that are special everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address

import pytest

from ingot.v1 import reason_pb2
from ingot_server.config import Settings
from ingot_server.egress.addresses import Address
from ingot_server.egress.destinations import Destinations, is_own
from ingot_server.errors import Failure
from ingot_server.setting_values import SettingError


async def no_lookup(host: str) -> Sequence[Address]:
    raise AssertionError(f"{host} was looked up")


@pytest.mark.parametrize(
    ("url", "settings"),
    [
        ("http://example.com:22/", Settings()),
        ("http://example.com:1023/", Settings()),
        ("https://example.com/", Settings(egress_ports="80")),
        ("http://example.com:8081/", Settings(egress_ports="80, 8000-8080")),
    ],
)
def test_a_closed_port_is_refused_and_the_open_ones_are_named(url: str, settings: Settings) -> None:
    with pytest.raises(Failure, match="the open ports are 80") as raised:
        Destinations(settings).check_url(url)
    assert raised.value.reason == reason_pb2.REASON_ADDRESS_FORBIDDEN
    assert "INGOT_EGRESS_PORTS" in raised.value.message


@pytest.mark.parametrize(
    "url", ["http://example.com/", "https://example.com/", "http://example.com:1024/"]
)
def test_the_ports_of_the_web_are_open(url: str) -> None:
    Destinations(Settings()).check_url(url)


@pytest.mark.parametrize(
    ("host", "closed"),
    [
        ("8.8.4.4", "8.8.4.4"),
        ("0x08.8.1028", "8.8.0.0/16"),
        ("64:ff9b::808:404", "8.8.4.4"),
        ("2606:4700::1111", "9.9.9.9, 2606:4700::/32"),
    ],
)
async def test_what_the_operator_closed_is_refused(host: str, closed: str) -> None:
    destinations = Destinations(Settings(egress_deny=closed))
    with pytest.raises(Failure, match="closed by INGOT_EGRESS_DENY"):
        destinations.check(host, 80)
    Destinations(Settings()).check(host, 80)
    if host[0] != "0":
        why = await destinations.why_forbidden(ip_address(host), 80, no_lookup)
        assert why == "closed by INGOT_EGRESS_DENY"


@pytest.mark.parametrize(
    "settings",
    [
        {"redis_url": "redis://localhost:7001/0"},
        {"redis_url": "redis://:secret@[::1]:7001/0"},
        {"broker_url": "amqp://user:word@10.0.0.1:1//;amqp://user:word@127.0.0.1:7001//"},
        {"s3_endpoint": "127.0.0.1:7001"},
        {"grpc_address": "0.0.0.0:7001"},
        {"http_address": "[::]:7001"},
    ],
)
async def test_open_loopback_does_not_lead_to_ingots_own_servers(settings: dict[str, str]) -> None:
    destinations = Destinations(Settings(egress_allow_loopback=True).replace(**settings))
    for host in ("127.0.0.1", "127.9.9.9", "::1"):
        with pytest.raises(Failure, match="a server of Ingot itself"):
            destinations.check(host, 7001)
        why = await destinations.why_forbidden(ip_address(host), 7001, no_lookup)
        assert why == "that of a server of Ingot itself"
        assert await destinations.why_forbidden(ip_address(host), 7002, no_lookup) == ""


@pytest.mark.parametrize(
    ("settings", "port"),
    [
        ({"redis_url": "redis://redis.example/0"}, 6379),
        ({"redis_url": "rediss://redis.example:7001/0"}, 7001),
        ({"broker_url": "amqp://user:word@other.example//;amqp://user:word@redis.example//"}, 5672),
    ],
)
async def test_a_public_address_of_redis_is_refused(settings: dict[str, str], port: int) -> None:
    async def resolve(host: str) -> Sequence[Address]:
        return [ip_address("8.8.8.8" if host == "redis.example" else "9.9.9.9")]

    destinations = Destinations(Settings().replace(**settings))
    address = ip_address("8.8.8.8")
    why = await destinations.why_forbidden(address, port, resolve)
    assert why == "that of Ingot's Redis or broker"
    # At another port there is another server, which nobody has to look up.
    assert await destinations.why_forbidden(address, port + 1, no_lookup) == ""
    assert await destinations.why_forbidden(ip_address("8.8.4.4"), port, resolve) == ""


def test_a_public_s3_is_open_because_it_serves_others_too() -> None:
    settings = Settings(s3_endpoint="s3.eu-central-1.amazonaws.com:443", s3_secure=True)
    Destinations(settings).check("s3.eu-central-1.amazonaws.com", 443)


def test_this_machine_knows_its_own_addresses() -> None:
    assert is_own(ip_address("127.0.0.1"))
    assert not is_own(ip_address("8.8.8.8"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("INGOT_EGRESS_DENY", "example.com"),
        ("INGOT_EGRESS_DENY", "10.0.0.1/8"),
        ("INGOT_EGRESS_PORTS", ""),
        ("INGOT_EGRESS_PORTS", "0"),
        ("INGOT_EGRESS_PORTS", "80,65536"),
        ("INGOT_EGRESS_PORTS", "90-80"),
        ("INGOT_EGRESS_PORTS", "http"),
    ],
)
def test_a_list_that_cannot_be_used_is_named(name: str, text: str) -> None:
    with pytest.raises(SettingError, match=f"{name}="):
        Settings.from_environment({name: text})
