from __future__ import annotations

import dataclasses

import pytest

from ingot.v1 import reason_pb2
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.sources import SOURCES, pick
from ingot_server.sources.http import normalise
from tests.refused_urls import assert_refused_with_what_to_do

ONE_KEY = {
    "http://example.com/": (
        "http://example.com",
        "HTTP://EXAMPLE.COM/",
        "http://example.com:80/",
        "http://example.com:/",
        "http://example.com:0080",
        "http://example.com/#top",
        "http://example.com#",
        "http://example.com?",
        "http://example.com/./",
        "http://example.com/..",
        "http://example.com/a/..",
        "http://exa%6Dple.com/",
        "  http://example.com/\n",
        "\thttp://example.com/\r\n",
        "http://\uff45xample\uff0ecom/",
    ),
    "https://example.com/a/c%2Fd?b=1&a=2": (
        "https://example.com:443/a/b/../c%2fd?b=1&a=2",
        "https://Example.com/%61/./c%2Fd?%62=1&a=%32#t=30",
        "https://example.com/%2e/a/%2E%2e/a/c%2fd?b=1&a=2",
    ),
    "http://example.com/~user/%C3%A9?q=%C3%A9": (
        "http://example.com/%7Euser/é?q=é",
        "http://example.com/%7euser/%c3%a9?q=%c3%A9",
    ),
    "http://xn--bcher-kva.example/": (
        "http://bücher.example/",
        "http://BÜCHER.example",
        "http://b%C3%BCcher.example/",
        "http://xn--Bcher-kva.example/",
        "http://bücher。example/",
    ),
    "http://example.com:8080/": ("http://example.com:8080", "http://example.com:08080/"),
    "http://[2001:db8::1]/": (
        "http://[2001:DB8:0:0:0:0:0:1]:80/",
        "http://[2001:0db8::0001]",
    ),
    "http://[::ffff:1.2.3.4]/": ("http://[::FFFF:102:304]/", "http://[0::ffff:1.2.3.4]/"),
    "http://[::1]:8080/a": ("http://[0:0:0:0:0:0:0:1]:8080/a",),
    "http://127.0.0.1/": ("http://\uff11\uff12\uff17.0.0.1/", "http://%31%32%37.0.0.1/"),
    "http://example.com/a%25zz%25": ("http://example.com/a%zz%",),
    "http://example.com/%7B%22a%22%7D%5C%7C": ('http://example.com/{"a"}\\|',),
}

# What a server may answer differently stays apart.
APART = (
    "http://example.com/a",
    "https://example.com/a",
    "http://example.com/a/",
    "http://example.com//a",
    "http://example.com/A",
    "http://example.com/a%2Fb",
    "http://example.com/a/b",
    "http://example.com/a?b",
    "http://example.com/a?b=",
    "http://example.com/a?b=1&c=2",
    "http://example.com/a?c=2&b=1",
    "http://example.com/a?b=1&b=1",
    "http://example.com/a?b=x+y",
    "http://example.com/a?b=x%20y",
    "http://example.com/a?b=x%2By",
    "http://example.com/a?b=%26",
    "http://example.com/a?b=&",
    "http://example.com/a?u=/x/../y",
    "http://example.com/a?u=/y",
    "http://example.com/a;b",
    "http://example.com/a%3Bb",
    "http://example.com/a?b[]=1",
    "http://example.com/a?b%5B%5D=1",
    "http://example.com/a%00",
    "http://example.com./a",
    "http://www.example.com/a",
    "http://example.com:8080/a",
    "http://example.com:443/a",
    "https://example.com:80/a",
    "http://127.0.0.1/a",
    "http://127.1/a",
    "http://0x7f.1/a",
    "http://[::1]/a",
    "http://a_b.example/a",
    "http://r3---sn-4g5e.example/a",
)

LABEL = "a" * 63
BROKEN = {
    "": "is empty",
    " \n": "is empty",
    "example.com/clip.mp4": "no scheme",
    "//example.com/clip.mp4": "no scheme",
    "/clip.mp4": "no scheme",
    "localhost:8080/clip.mp4": "no scheme",
    "example.com:80": "no scheme",
    "://example.com": "no scheme",
    "1http://example.com": "no scheme",
    "http:": "no host",
    "http:example.com": "no host",
    "http://": "no host",
    "http:///clip.mp4": "no host",
    "http://:80/": "no host",
    "http://?a": "no host",
    "http://example.com/a\nb": "control character",
    "http://example.com/a\r\nHost: b": "control character",
    "http://example.com/\x00": "control character",
    "http://exam\tple.com/": "control character",
    "http://example.com/\x7f": "control character",
    "http://example.com/\u2028": "control character",
    "http://example.com/\ud800": "control character",
    "http://example.com/a b": "%20",
    "http://user@example.com/": "user info",
    "http://user:secret@example.com/": "user info",
    "http://@example.com/": "user info",
    "http://example.com\\@10.0.0.1/": "user info",
    "http://example.com:0/": "port",
    "http://example.com:65536/": "port",
    "http://example.com:-1/": "port",
    "http://example.com:٨٠/": "port",
    "http://example.com:http/": "port",
    f"http://example.com:{'9' * 5000}/": "port",
    "http://example.com:80:80/": "malformed host",
    "http://[::1/": "malformed host",
    "http://::1/": "malformed host",
    "http://[::1]x/": "malformed host",
    "http://[::g]/": "IPv6",
    "http://[]/": "IPv6",
    "http://[fe80::1%25eth0]/": "IPv6",
    "http://[fe80::1%eth0]/": "IPv6",
    "http://[v1.a]/": "IPv6",
    "http://[127.0.0.1]/": "IPv6",
    f"http://a{LABEL}.com/": "too long",
    f"http://{'.'.join([LABEL] * 4)}/": "too long",
    f"http://{'ü' * 60}.example/": "domain name",
    "http://a..b/": "domain name",
    "http://.example.com/": "domain name",
    "http://./": "domain name",
    "http://exa%20mple.com/": "domain name",
    "http://exa%2Fmple.com/": "domain name",
    "http://exa%40mple.com/": "domain name",
    "http://exa%ffmple.com/": "domain name",
    "http://exa|mple.com/": "domain name",
    "http://☃.example/": "xn--",
    f"http://example.com/{'a' * 8192}": "8192",
    f"http://example.com/{'é' * 4090}": "8192",
    f"http://example.com/{'é' * 3000}": "8192",
}

OTHERS = (
    "file:///etc/passwd",
    "FILE:/etc/passwd",
    "ftp://example.com/a",
    "javascript:alert(1)",
    "data:text/plain,hello",
    "rtmp://example.com/live",
    "mailto:a@example.com",
    "httpx://example.com/",
)


@pytest.mark.parametrize(
    ("written", "normal"),
    [(written, normal) for normal, forms in ONE_KEY.items() for written in (normal, *forms)],
)
def test_every_way_of_writing_a_url_gives_one_key(written: str, normal: str) -> None:
    source, identity = pick(written)
    assert identity.source == source.name == "http"
    assert (identity.url, identity.page_url, identity.key) == (normal, normal, f"http:{normal}")


# What is requested: the URL as it was written, if that is not the normal form.
WRITTEN = {
    "http://example.com/a%2b%7E%2E|?x=%2b&y=a+b%20c": None,
    "http://example.com/a?": None,
    "http://example.com/?": None,
    "http://example.com/a%zz<{x}>?u=/x/../y": None,
    "HTTPS://Example.com:443/%7e?X-Amz-Credential=A%2f1#t=3": (
        "https://example.com/%7e?X-Amz-Credential=A%2f1"
    ),
    "http://bücher.example/%7eé?ü=%c3%bc": "http://xn--bcher-kva.example/%7e%C3%A9?%C3%BC=%c3%bc",
    "http://example.com?a=%2b": "http://example.com/?a=%2b",
    "http://example.com/a/%2e%2E/.%2e/b%2e/./c": "http://example.com/b%2e/c",
    "http://example.com/%7e.m3u8?token=%2b": None,
}


@pytest.mark.parametrize(("url", "requested"), WRITTEN.items())
def test_a_url_is_requested_as_it_was_written(url: str, requested: str | None) -> None:
    identity = pick(url)[1]
    assert identity.requested_url == (requested or url)
    assert pick(identity.requested_url)[1] == identity
    assert identity.key.partition(":")[2] == identity.url == normalise(url) != identity.fetch_url


@pytest.mark.parametrize("url", APART)
def test_a_normal_url_is_requested_as_it_is(url: str) -> None:
    identity = pick(url)[1]
    assert (identity.requested_url, identity.fetch_url) == (url, "")


@pytest.mark.parametrize("url", APART)
def test_a_normal_url_stays_as_it_is(url: str) -> None:
    assert normalise(url) == url


def test_what_a_server_can_tell_apart_has_keys_of_its_own() -> None:
    assert len({pick(url)[1].key for url in APART}) == len(APART)


@pytest.mark.parametrize(("url", "problem"), BROKEN.items(), ids=lambda text: repr(text)[:40])
def test_a_broken_url_is_refused_with_what_to_do(url: str, problem: str) -> None:
    assert_refused_with_what_to_do(url, problem)


@pytest.mark.parametrize("url", OTHERS)
def test_other_schemes_are_unsupported(url: str) -> None:
    with pytest.raises(Failure) as caught:
        pick(url)
    assert caught.value.reason == reason_pb2.REASON_UNSUPPORTED_URL
    assert "https://" in caught.value.message


def test_a_url_of_the_largest_size_is_taken() -> None:
    url = f"http://example.com/{'a' * (8192 - 19)}"
    assert pick(url)[1].url == url


def test_a_host_of_the_largest_size_is_taken() -> None:
    host = ".".join([LABEL] * 3 + ["a" * 61])
    assert pick(f"http://{host}./")[1].url == f"http://{host}./"


def test_sources_have_names_of_their_own() -> None:
    assert len({source.name for source in SOURCES}) == len(SOURCES)


def test_what_a_source_requires_is_a_setting() -> None:
    required = {source.required_setting for source in SOURCES} - {None}
    assert required <= {field.name for field in dataclasses.fields(Settings)}
