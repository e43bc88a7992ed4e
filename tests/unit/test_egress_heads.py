from __future__ import annotations

import pytest

from ingot.v1 import reason_pb2
from ingot_server.egress.http_head import parse_request, parse_response
from ingot_server.egress.proxy import failure_from_proxy_status
from ingot_server.egress.refusal import Refusal
from ingot_server.egress.upstream import parse_upstream
from ingot_server.setting_values import SettingError


def _raw(*lines: str) -> bytes:
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


@pytest.mark.parametrize(
    ("target", "host", "port", "first_lines"),
    [
        ("http://a.test/x?y=1", "a.test", 80, b"GET /x?y=1 HTTP/1.1\r\nHost: a.test\r\n"),
        ("http://A.test:81", "a.test", 81, b"GET / HTTP/1.1\r\nHost: A.test:81\r\n"),
        ("HTTP://a.test?q", "a.test", 80, b"GET /?q HTTP/1.1\r\nHost: a.test\r\n"),
        ("http://[::1]:8/#f", "::1", 8, b"GET / HTTP/1.1\r\nHost: [::1]:8\r\n"),
    ],
)
def test_absolute_form_becomes_origin_form(
    target: str, host: str, port: int, first_lines: bytes
) -> None:
    request = parse_request(_raw(f"GET {target} HTTP/1.1", "Host: other.test"))
    assert (request.host, request.port, request.is_tunnel) == (host, port, False)
    assert request.forwarded == first_lines + b"Connection: close\r\n\r\n"


def test_only_end_to_end_headers_are_passed_on() -> None:
    request = parse_request(
        _raw(
            "POST http://a.test/ HTTP/1.1",
            "Proxy-Authorization: Basic am9iOnRva2Vu",
            "Proxy-Connection: keep-alive",
            "Keep-Alive: 5",
            "Upgrade: websocket",
            "Connection: X-Mine, Content-Length",
            "X-Mine: 1",
            "Range: bytes=5-",
            "Content-Length: 3",
            "Trailer: X",
            "TE: trailers",
        )
    )
    assert request.credentials == "job:token"
    assert request.content_length == 3
    assert request.forwarded == _raw(
        "POST / HTTP/1.1",
        "Host: a.test",
        "Range: bytes=5-",
        "Content-Length: 3",
        "Connection: close",
    )


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (["GET / HTTP/1.1"], 400),
        (["GET https://a.test/ HTTP/1.1"], 400),
        (["GET ftp://a.test/ HTTP/1.1"], 400),
        (["GET http://user:word@a.test/ HTTP/1.1"], 400),
        (["GET http:/// HTTP/1.1"], 400),
        (["GET http://a.test:0/ HTTP/1.1"], 400),
        (["GET http://a.test:65536/ HTTP/1.1"], 400),
        (["GET http://a%2etest/ HTTP/1.1"], 400),
        (["GET http://[::1/ HTTP/1.1"], 400),
        (["GET http://[::zz]/ HTTP/1.1"], 400),
        (["GET http://a.test/ HTTP/2"], 400),
        (["GET  http://a.test/ HTTP/1.1"], 400),
        (["CONNECT a.test HTTP/1.1"], 400),
        (["CONNECT http://a.test:443 HTTP/1.1"], 400),
        (["GET http://a.test/ HTTP/1.1", "X : 1"], 400),
        (["GET http://a.test/ HTTP/1.1", "X: 1", " folded"], 400),
        (["GET http://a.test/ HTTP/1.1", "X: a\nY: b"], 400),
        (["GET http://a.test/ HTTP/1.1", "X: \0"], 400),
        (["GET http://a.test/ HTTP/1.1\nX: 1"], 400),
        (["POST http://a.test/ HTTP/1.1", "Content-Length: +3"], 400),
        (["POST http://a.test/ HTTP/1.1", "Content-Length: 3", "Content-Length: 4"], 400),
        (["POST http://a.test/ HTTP/1.1", "Transfer-Encoding: chunked"], 411),
        (["POST http://a.test/ HTTP/1.1", "Content-Length: 3", "Transfer-Encoding: x"], 411),
    ],
)
def test_malformed_request_is_refused(lines: list[str], status: int) -> None:
    with pytest.raises(Refusal) as caught:
        parse_request(_raw(*lines))
    assert caught.value.status == status
    assert caught.value.error == "http_request_error"


def test_response_says_close_and_nothing_of_proxies() -> None:
    head = parse_response(
        _raw(
            "HTTP/1.1 200 OK",
            "Connection: keep-alive",
            "Keep-Alive: timeout=5",
            "Proxy-Status: ingot-egress; error=destination_ip_prohibited",
            "Transfer-Encoding: chunked",
            "Set-Cookie: caf\xe9",
        )
    )
    assert head.forwarded() == _raw(
        "HTTP/1.1 200 OK", "Transfer-Encoding: chunked", "Set-Cookie: caf\xe9", "Connection: close"
    )


def test_the_response_of_a_radio_station_is_that_of_http() -> None:
    head = parse_response(_raw("ICY 200 OK", "icy-name:Bells", "content-type:audio/mpeg"))
    assert (head.version, head.status) == ("HTTP/1.0", 200)
    assert head.forwarded() == _raw(
        "HTTP/1.0 200 OK", "icy-name: Bells", "content-type: audio/mpeg", "Connection: close"
    )


@pytest.mark.parametrize(
    "first", ["ICY 2000 OK", "ICY", "HTTP/1.1 2000", "HTTP/2 200", "<html>", ""]
)
def test_bytes_that_are_not_a_response_are_refused(first: str) -> None:
    with pytest.raises(Refusal) as caught:
        parse_response(_raw(first))
    assert caught.value.error == "http_protocol_error"


@pytest.mark.parametrize(
    ("proxy_status", "reason"),
    [
        ("ingot-egress; error=destination_ip_prohibited", reason_pb2.REASON_ADDRESS_FORBIDDEN),
        ("ingot-egress;error=dns_error", reason_pb2.REASON_HOST_NOT_FOUND),
        ("ingot-egress; error=dns_timeout", reason_pb2.REASON_HOST_NOT_FOUND),
        ("ingot-egress; error=connection_refused", reason_pb2.REASON_SOURCE_UNREACHABLE),
        ("ingot-egress; error=connection_timeout", reason_pb2.REASON_SOURCE_UNREACHABLE),
        ("ingot-egress; error=destination_unavailable", reason_pb2.REASON_SOURCE_UNREACHABLE),
        ("ingot-egress; error=http_request_error", reason_pb2.REASON_INTERNAL),
        (
            'other; details="a, ingot-egress; error=dns_error", ingot-egress; error=dns_timeout',
            reason_pb2.REASON_HOST_NOT_FOUND,
        ),
    ],
)
def test_proxy_status_becomes_a_failure(proxy_status: str, reason: int) -> None:
    failure = failure_from_proxy_status(proxy_status, "a.test")
    assert failure is not None
    assert failure.reason == reason
    assert failure.metadata == {"host": "a.test"}
    assert "a.test" in failure.message


@pytest.mark.parametrize(
    "proxy_status",
    [
        "",
        "ingot-egress",
        "ingot-egress; error=unheard_of",
        "other; error=dns_error",
        'other; details="ingot-egress; error=dns_error"',
        '"',
    ],
)
def test_other_proxy_status_is_not_a_failure(proxy_status: str) -> None:
    assert failure_from_proxy_status(proxy_status, "a.test") is None


def test_upstream_setting_is_read() -> None:
    assert parse_upstream("") is None
    upstream = parse_upstream("http://us%40er:w%3Ard@proxy.corp:3128/")
    assert upstream is not None
    assert (upstream.host, upstream.port) == ("proxy.corp", 3128)
    assert upstream.authorization == "Basic dXNAZXI6dzpyZA=="
    assert "dXN" not in repr(upstream)


@pytest.mark.parametrize(
    "setting", ["proxy:3128", "https://proxy:1", "http://proxy", "http://proxy:x", "http://p:1/x"]
)
def test_bad_upstream_setting_is_named(setting: str) -> None:
    with pytest.raises(SettingError, match="INGOT_EGRESS_PROXY"):
        parse_upstream(setting)
