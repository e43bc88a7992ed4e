"""What strangers write is read or refused, and nothing else: no exception that nobody expects."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ingot.v1.media_pb2 import Selection
from ingot_server.allowed_destinations import parse_allowed_destinations
from ingot_server.config import Settings
from ingot_server.egress.http_head import parse_request, parse_response
from ingot_server.egress.proxy import failure_from_proxy_status
from ingot_server.egress.refusal import Refusal
from ingot_server.egress.upstream import parse_upstream
from ingot_server.errors import Failure
from ingot_server.process.child import ChildError, ChildProcess
from ingot_server.resolve import resolve
from ingot_server.setting_values import SettingError
from ingot_server.source_settings import read_source_settings
from ingot_server.sources import SOURCES
from ingot_server.transfer.headers import parse_retry_after

FUZZ = settings(
    max_examples=500,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
NESTED = b"[" * 100_000
HEAD_PARTS = st.sampled_from(
    [
        *(b"GET", b"CONNECT", b" ", b"http://", b"a.test", b":", b"80", b"/", b"HTTP/1.1", b"\r\n"),
        *(
            b"\n",
            b"\r",
            b"\t",
            b"\0",
            b"\xff",
            b"Host: a",
            b"Content-Length: 1",
            b"Basic ",
            b"%",
            b"[::1]",
        ),
        *(b"Transfer-Encoding: chunked", b"Proxy-Authorization: Basic Og==", b"200", b"ICY 200 OK"),
    ]
)
HEADS = st.one_of(st.binary(max_size=64), st.lists(HEAD_PARTS, max_size=16).map(b"".join)).map(
    lambda head: head + b"\r\n\r\n"
)
URL_PARTS = st.sampled_from(
    [
        *("http://", "https://", "s3://", "gs://", "telegram://", "t.me/", "youtube.com/watch?v="),
        *(
            "youtu.be/",
            "a.test",
            "[::1]",
            "[",
            "]",
            "@",
            ":",
            ":99999",
            "/",
            "//",
            "?",
            "#",
            "%",
            "%zz",
        ),
        *(
            "..",
            ".",
            "é",
            "xn--",
            "\0",
            "\n",
            " ",
            "\ud7ff",
            "٣",
            "0x7f.1",
            "list=PL1",
            "&t=30s",
            "a" * 300,
        ),
    ]
)
URLS = st.one_of(st.text(max_size=30), st.lists(URL_PARTS, max_size=8).map("".join))


@FUZZ
@given(HEADS)
def test_heads_of_the_guard(head: bytes) -> None:
    with contextlib.suppress(Refusal):
        parse_request(head)
    with contextlib.suppress(Refusal):
        parse_response(head)
    failure_from_proxy_status(head.decode("latin-1"), "a.test")


@FUZZ
@given(URLS, st.booleans())
def test_urls(url: str, playlist: bool) -> None:
    with contextlib.suppress(Failure):
        resolve(url, Selection(), playlist=playlist)


@FUZZ
@given(URLS)
def test_what_settings_and_headers_name(text: str) -> None:
    with contextlib.suppress(ValueError):
        parse_allowed_destinations(text)
    with contextlib.suppress(SettingError):
        parse_upstream(text)
    parse_retry_after(text)


@FUZZ
@given(
    st.sampled_from(sorted(Settings().environment())),
    st.one_of(
        URLS, st.sampled_from(["1e400s", "-1", "9" * 400, "9" * 5000, "inf", "nan", "1 TiB"])
    ),
)
def test_settings(name: str, text: str) -> None:
    with contextlib.suppress(SettingError):
        Settings.from_environment({name: text})


TOML_PARTS = st.sampled_from(
    [
        *(
            "[youtube]\n",
            "[http]\n",
            "[",
            "]",
            "\n",
            "rate = ",
            "burst = ",
            "block = ",
            "cookies = ",
        ),
        *(
            "proxy = ",
            "concurrency = ",
            "bandwidth = ",
            '"300/h"',
            '"0/s"',
            "0",
            "-1",
            "1e400",
            "nan",
        ),
        *(
            "true",
            '"1s"',
            '"a"',
            "9" * 30,
            '"http://a:b@c:1"',
            '"http://["',
            "[[a]]\n",
            "{}",
            "\x00",
            "é",
        ),
        *("1979-05-27", '"1e400s"', '"99999999999d"', '"999999/d"', '"9999999TiB"'),
    ]
)


@FUZZ
@given(st.one_of(st.text(max_size=40), st.lists(TOML_PARTS, max_size=8).map("".join)))
@example("rate = " + "[" * 5000)
def test_the_file_of_sources(tmp_path: Path, text: str) -> None:
    file = tmp_path / "sources.toml"
    file.write_text(text, encoding="utf-8", errors="surrogatepass")
    with contextlib.suppress(SettingError):
        read_source_settings(Settings(sources_file=str(file)), [each.name for each in SOURCES])


COOKIE_PARTS = st.sampled_from(
    [
        "# Netscape HTTP Cookie File",
        "\n",
        "\t",
        "#HttpOnly_",
        ".a.test",
        "TRUE",
        "/",
        "0",
        "\x85",
        "é",
    ]
)


@FUZZ
@given(st.one_of(st.binary(max_size=40), st.lists(COOKIE_PARTS, max_size=16).map("".join)))
def test_files_of_cookies(tmp_path: Path, content: bytes | str) -> None:
    file = tmp_path / "sources.toml"
    file.write_text('[youtube]\ncookies = "cookies.txt"\n')
    data = content if isinstance(content, bytes) else content.encode()
    (tmp_path / "cookies.txt").write_bytes(data)
    with contextlib.suppress(SettingError):
        read_source_settings(Settings(sources_file=str(file)), ["youtube"])


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2), st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=4,
).map(lambda value: json.dumps(value).encode())


@settings(FUZZ, max_examples=300)
@given(st.lists(st.one_of(st.binary(max_size=20), JSON), max_size=4))
@example([NESTED])
@example([b"9" * 5000])
@example([b'{"a":' * 100_000])
def test_lines_of_children(lines: list[bytes]) -> None:
    async def read() -> None:
        reader = asyncio.StreamReader(limit=4 << 20)
        reader.feed_data(b"".join(line + b"\n" for line in lines))
        reader.feed_eof()
        child = ChildProcess.__new__(ChildProcess)
        child._reader = reader
        while True:
            try:
                if await child.receive_message() is None:
                    return
            except ChildError:
                continue

    asyncio.run(read())
