"""The guard's parser of HTTP heads against that of h11: time for one head, as a ratio."""

from __future__ import annotations

import timeit
from collections.abc import Callable

import h11

from ingot_server.egress.http_head import parse_request, parse_response

ROUNDS = 5
HEADS = 2000

REQUEST = (
    b"GET http://origin.test:8080/path/segment-1.ts?x=1 HTTP/1.1\r\nHost: origin.test:8080\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36\r\nAccept: */*\r\n"
    b"Accept-Encoding: identity\r\nRange: bytes=0-\r\nConnection: keep-alive\r\n"
    b"Proxy-Authorization: Basic am9iOnRva2VudG9rZW50b2tlbnRva2VudG9rZW50b2tlbg==\r\n\r\n"
)
RESPONSE = (
    b"HTTP/1.1 206 Partial Content\r\nDate: Mon, 30 Nov 2026 00:00:00 GMT\r\nServer: nginx\r\n"
    b"Content-Type: video/mp2t\r\nContent-Length: 1234567\r\nCache-Control: max-age=3600\r\n"
    b'Content-Range: bytes 0-1234566/1234567\r\nETag: "abc"\r\nAccept-Ranges: bytes\r\n\r\n'
)


def request_by_h11() -> None:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(REQUEST)
    assert isinstance(connection.next_event(), h11.Request)


def response_by_h11() -> None:
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "origin.test")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(RESPONSE)
    assert isinstance(connection.next_event(), h11.Response)


def seconds(call: Callable[[], object]) -> float:
    """Return the shortest time of one call."""
    return min(timeit.repeat(call, number=HEADS, repeat=ROUNDS)) / HEADS


async def main() -> None:
    for name, ours, theirs in (
        ("request", lambda: parse_request(REQUEST), request_by_h11),
        ("response", lambda: parse_response(RESPONSE), response_by_h11),
    ):
        time, of_h11 = seconds(ours), seconds(theirs)
        print(f"  a {name}: {time * 1e6:.0f} µs, ratio {time / of_h11:.2f}")
