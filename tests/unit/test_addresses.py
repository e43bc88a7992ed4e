from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from ingot.v1 import reason_pb2
from ingot_server.egress.addresses import check_host, is_forbidden, literal_address
from ingot_server.errors import Failure

FORBIDDEN = """
    0.0.0.0 0.1.2.3 10.0.0.0 10.255.255.255 100.64.0.0 100.127.255.255 100.100.100.200
    127.0.0.1 127.255.255.255 168.63.129.16 169.254.0.1 169.254.169.254 172.16.0.0 172.31.255.255
    192.0.0.0 192.0.0.192 192.0.2.1 192.88.99.1 192.168.0.0 192.168.255.255 198.18.0.0
    198.19.255.255 198.51.100.7 203.0.113.255 224.0.0.1 239.255.255.255 240.0.0.1
    255.255.255.254 255.255.255.255
    :: ::1 ::2 ::7f00:1 ::10.0.0.1 ::8.8.8.8 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:8.8.8.8
    ::ffff:0:8.8.8.8 64:ff9b::127.0.0.1 64:ff9b::a9fe:a9fe 64:ff9b::10.1.2.3 64:ff9b:0:0:1::1
    64:ff9b:1::8.8.8.8 64:ff9b:1:ffff:ffff:ffff:ffff:ffff 100::1 100:0:0:1::1 200::1 1fff::1
    2001::1 2001:0:7f00:1:0:ffff:8080:8080 2001:0:808:808::80ff:fffe 2001:1::1 2001:2::1 2001:3::1
    2001:10::1 2001:1f:ffff::1 2001:20::1 2001:2f:ffff::1 2001:30::1 2001:1ff:ffff::1
    2001:db8::1 2001:db8:ffff:ffff:ffff:ffff:ffff:ffff
    2002:7f00:1::1 2002:a00:1:: 2002:808:808::1 2002:c0a8:101::
    2606:4700::5efe:127.0.0.1 2606:4700::5efe:8.8.8.8 2606:4700::200:5efe:10.0.0.1
    fe80::5efe:10.0.0.1 3fff::1 3fff:fff:ffff::1 4000::1 5f00::1 8000::1 e000::1
    fc00::1 fd00::1 fd00:ec2::254 fdff:ffff::1 fe00::1 fe80::1 febf::1 fe80::1%eth0
    2606:4700::1%eth0
    fec0::1 feff::1 ff02::1 ff0e::1 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff
""".split()

ALLOWED = """
    1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0
    168.63.129.15 168.63.129.17 169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0
    191.255.255.255
    192.0.1.0 192.0.3.0 192.88.98.255 192.88.100.0 192.167.255.255 192.169.0.0 198.17.255.255
    198.20.0.0 198.51.99.255 198.51.101.0 203.0.112.255 203.0.114.0 223.255.255.255
    2000::1 2001:200::1 2001:4860:4860::8888 2001:db7:ffff::1 2001:db9::1 2003::1 2606:4700::1111
    2a00:1450:4001:800::200e 3ffe:ffff::1 3fff:1000::1 64:ff9b::8.8.8.8
""".split()

# What some program on the way reads as an address.
LITERALS = {
    "127.0.0.1": "127.0.0.1",
    "127.1": "127.0.0.1",
    "127.0.1": "127.0.0.1",
    "0x7f.1": "127.0.0.1",
    "0X7F.0x0.0.0x1": "127.0.0.1",
    "0x7f000001": "127.0.0.1",
    "2130706433": "127.0.0.1",
    "017700000001": "127.0.0.1",
    "0177.0.0.01": "127.0.0.1",
    "0177.0.0.0x1": "127.0.0.1",
    "00000000000000000000177.0.0.1": "127.0.0.1",
    "127.65535": "127.0.255.255",
    "10.0.258": "10.0.1.2",
    "127.0.0.1.": "127.0.0.1",
    "0": "0.0.0.0",
    "0x": "0.0.0.0",
    "4294967295": "255.255.255.255",
    "8.8.8.8": "8.8.8.8",
    "\uff11\uff12\uff17.\uff10.\uff10.\uff11": "127.0.0.1",
    "127\u30020\u30020\u30021": "127.0.0.1",
    "127\uff0e0\uff610.\u2460": "127.0.0.1",
    "::1": "::1",
    "[::1]": "::1",
    "[0:0:0:0:0:0:0:1]": "::1",
    "[::ffff:127.0.0.1]": "::ffff:127.0.0.1",
    "[FE80::1%25eth0]": "fe80::1%25eth0",
}

NAMES = """
    example.com localhost 1.2.3.4.5 256.1.1.1 1.256.1.1 1.2.3.256 1.2.65536 1.16777216 4294967296
    08.0.0.1 0x7g.1 127.0.0.1.example.com 127..1 .127.1 -1 +1 1_0 1e3 [::1 ::1] [127.0.0.1::] a
""".split()

LOCAL = """
    localhost LOCALHOST localhost. localhost.. www.localhost localhost.localdomain ip6-localhost
    ip6-loopback printer printer. redis printer.local a.b.local. metadata.google.internal internal
    nas.home.arpa home.arpa router.lan nas.home wiki.corp wiki.intranet db.private
    redis.default.svc redis.default.svc.cluster.local [::zz]
    127.0.0.1.. 256.1.1.1 08.0.0.1 1.2.3.4.5 4294967296 a.0x7f 127..1
""".split()

# Full-width letters, and the ideographic full stop.
LOCAL_IN_UNICODE = ["\uff4c\uff4f\uff43\uff41\uff4c\uff48\uff4f\uff53\uff54", "www\u3002localhost"]


@pytest.mark.parametrize("text", FORBIDDEN)
def test_special_address_is_forbidden(text: str) -> None:
    assert is_forbidden(ip_address(text), allow_loopback=False)


@pytest.mark.parametrize("text", ALLOWED)
def test_public_address_is_allowed(text: str) -> None:
    assert not is_forbidden(ip_address(text), allow_loopback=False)
    assert not is_forbidden(ip_address(text), allow_loopback=True)


def test_the_rule_is_as_strict_as_the_registry_that_python_ships() -> None:
    for text in ALLOWED:
        if not text.startswith("64:ff9b:"):
            assert ip_address(text).is_global


@pytest.mark.parametrize("text", FORBIDDEN)
def test_opening_loopback_opens_nothing_else(text: str) -> None:
    plain_loopback = text == "::1" or text.startswith("127.")
    assert is_forbidden(ip_address(text), allow_loopback=True) is not plain_loopback


@pytest.mark.parametrize(("text", "address"), LITERALS.items())
def test_literal_is_read_as_any_program_would(text: str, address: str) -> None:
    assert literal_address(text) == ip_address(address)


@pytest.mark.parametrize("text", NAMES)
def test_a_name_is_not_a_literal(text: str) -> None:
    assert literal_address(text) is None


def test_literal_has_its_type() -> None:
    assert isinstance(literal_address("1.1.1.1"), IPv4Address)
    assert isinstance(literal_address("[2606:4700::1111]"), IPv6Address)


@pytest.mark.parametrize(
    "host",
    [*LOCAL, *LOCAL_IN_UNICODE, "10.0.0.1", "[::1]", "0x7f.1", "2130706433", "169.254.169.254"],
)
def test_local_host_is_refused_with_what_to_do(host: str) -> None:
    with pytest.raises(Failure) as caught:
        check_host(host, allow_loopback=False)
    assert caught.value.reason == reason_pb2.REASON_ADDRESS_FORBIDDEN
    assert caught.value.metadata == {"host": host}
    assert host in caught.value.message
    assert "INGOT_EGRESS_ALLOW_LOOPBACK=on" in caught.value.message
    assert "public address" in caught.value.message


@pytest.mark.parametrize("allow_loopback", [False, True])
@pytest.mark.parametrize(
    "host",
    [
        "example.com",
        "example.com.",
        "localhost.example.com",
        "notlocal.example",
        "8.8.8.8",
        "[2606:4700::1111]",
        "my_bucket.example.org",
        "xn--bcher-kva.example",
        "local.host",
    ],
)
def test_public_host_passes(host: str, *, allow_loopback: bool) -> None:
    check_host(host, allow_loopback=allow_loopback)


@pytest.mark.parametrize(
    "host",
    ["localhost", "LocalHost.", "a.localhost", "ip6-localhost", "127.0.0.1", "[::1]", "127.1"],
)
def test_open_loopback_opens_its_names(host: str) -> None:
    check_host(host, allow_loopback=True)


@pytest.mark.parametrize(
    "host", ["printer", "a.local", "x.internal", "10.0.0.1", "[::ffff:7f00:1]"]
)
def test_open_loopback_opens_no_other_name(host: str) -> None:
    with pytest.raises(Failure):
        check_host(host, allow_loopback=True)
