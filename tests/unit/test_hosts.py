"""Which hosts are this server's, and which pages are."""

import pytest

from ingot_server.api.cors import Cors
from ingot_server.api.hosts import Hosts
from ingot_server.api.request_origin import RequestOrigins
from ingot_server.setting_values import SettingError

LOOPBACK = "127.0.0.1:8080"
EVERYWHERE = "0.0.0.0:8080"


@pytest.mark.parametrize("address", [LOOPBACK, "localhost:0", "[::1]:8080", EVERYWHERE])
@pytest.mark.parametrize("names", ["", "media.example"])
@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "LocalHost:8080", "localhost.", "ingot.localhost:1", "127.0.0.1"),
        *("127.8.9.10:8080", "[::1]", "[::1]:8080"),
    ],
)
def test_loopback_is_always_allowed(address: str, names: str, host: str) -> None:
    assert Hosts(names, address).allows(host)


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example"),
        *("evillocalhost", "0.0.0.0:8080", "10.0.0.1", "[2001:db8::1]:80", "", ":8080", "[::1"),
        *("localhost@evil.example", "localhost:8080@evil.example", "2130706433", "127.1"),
    ],
)
def test_on_loopback_nothing_else_is_allowed(host: str) -> None:
    assert not Hosts("", LOOPBACK).allows(host)


@pytest.mark.parametrize(
    ("names", "host", "allowed"),
    [
        ("media.example", "media.example:443", True),
        ("media.example", "MEDIA.example.", True),
        ("media.example", "evil.example", False),
        ("media.example", "sub.media.example", False),
        ("a.example, *.media.example", "sub.media.example", True),
        ("a.example, *.media.example", "media.example", False),
        ("*.media.example", "evilmedia.example", False),
        ("*", "evil.example", True),
    ],
)
@pytest.mark.parametrize("address", [LOOPBACK, EVERYWHERE])
def test_names_of_the_setting_are_allowed(
    names: str, host: str, allowed: bool, address: str
) -> None:
    assert Hosts(names, address).allows(host) is allowed


@pytest.mark.parametrize(
    ("names", "host", "allowed"),
    [
        ("", "evil.example", True),
        # A load balancer names the address. No page can make its own name of one.
        ("media.example", "10.0.0.1:8080", True),
        ("media.example", "[2001:db8::1]", True),
    ],
)
def test_beyond_loopback_addresses_are_allowed(names: str, host: str, allowed: bool) -> None:
    assert Hosts(names, EVERYWHERE).allows(host) is allowed


@pytest.mark.parametrize(
    "names", ["https://media.example", "media.example:443", "*media.example", "a..b", "é.example"]
)
def test_what_is_not_a_name_is_refused(names: str) -> None:
    with pytest.raises(SettingError, match="INGOT_HTTP_HOSTS"):
        Hosts(names, LOOPBACK)


OWN, FOREIGN = True, False


@pytest.mark.parametrize(
    ("origin", "site", "host", "own"),
    [
        # Programs that are not browsers.
        ("", "", "localhost:8080", OWN),
        # Browsers, over https or on this machine. The proxy has put another Host into it.
        ("https://media.example", "same-origin", "127.0.0.1:8080", OWN),
        ("", "none", "localhost:8080", OWN),
        ("https://evil.example", "cross-site", "localhost:8080", FOREIGN),
        ("", "cross-site", "localhost:8080", FOREIGN),
        # Another port of this machine, another name of the same domain.
        ("http://localhost:3000", "same-site", "localhost:8080", FOREIGN),
        ("https://other.media.example", "same-site", "media.example", FOREIGN),
        # Over http, browsers send only the Origin.
        ("http://10.0.0.1:8080", "", "10.0.0.1:8080", OWN),
        ("http://media.example", "", "media.example:80", OWN),
        ("https://media.example", "", "media.example", OWN),
        ("http://evil.example", "", "10.0.0.1:8080", FOREIGN),
        ("http://10.0.0.1:3000", "", "10.0.0.1:8080", FOREIGN),
        ("http://10.0.0.1:x", "", "10.0.0.1:8080", FOREIGN),
        ("null", "", "localhost:8080", FOREIGN),
        # The settings name these.
        ("http://known.example", "", "127.0.0.1:8080", OWN),
        ("https://page.example", "cross-site", "localhost:8080", OWN),
    ],
)
def test_a_call_is_answered_by_where_its_page_comes_from(
    origin: str, site: str, host: str, own: bool
) -> None:
    origins = RequestOrigins(Hosts("known.example", LOOPBACK), Cors("https://page.example"))
    headers = [
        (name, value.encode())
        for name, value in ((b"host", host), (b"origin", origin), (b"sec-fetch-site", site))
        if value
    ]
    refusal = origins.foreign({"headers": headers})
    assert (refusal is None) is own
    if refusal is not None:
        assert "INGOT_CORS_ORIGINS" in refusal.failure.message


@pytest.mark.parametrize(
    "hosts",
    [[], [b"evil.example"], [b"localhost", b"evil.example"], [b"evil.example", b"localhost"]],
)
def test_a_request_names_one_host_that_is_known(hosts: list[bytes]) -> None:
    origins = RequestOrigins(Hosts("", LOOPBACK), Cors("*"))
    refusal = origins.misdirected({"headers": [(b"host", host) for host in hosts]})
    assert refusal is not None
    assert "INGOT_HTTP_HOSTS" in refusal.failure.message
    assert origins.misdirected({"headers": [(b"host", b"localhost:1")]}) is None
