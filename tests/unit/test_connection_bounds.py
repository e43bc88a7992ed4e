"""How many connections may be open, and for whom."""

import asyncio
import os
import resource
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from ingot_server.api.connection_bounds import (
    BoundedListener,
    ConnectionBounds,
    most_grpc_connections,
    raise_descriptor_limit,
)
from ingot_server.config import Settings


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8::1", "2001:db8::2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
    ],
)
def test_who_shares_a_bound(first: str, second: str, shared: bool) -> None:
    bounds = ConnectionBounds(10, 1)
    assert bounds.enter(first)
    assert bounds.enter(second) is not shared
    bounds.leave(first)
    assert bounds.enter(first)


def test_one_address_leaves_room_for_others() -> None:
    bounds = ConnectionBounds(3, 2)
    assert [bounds.enter("192.0.2.1") for _ in range(3)] == [True, True, False]
    assert [bounds.enter("192.0.2.2") for _ in range(2)] == [True, False]
    bounds.leave("192.0.2.1")
    assert bounds.enter("192.0.2.2")


@pytest.mark.parametrize(
    ("settings", "in_all", "per_address"),
    [
        ({}, 500, 250),
        ({"http_connections": 100}, 100, 50),
        ({"http_connections_per_address": 20}, 500, 20),
        ({"http_connections_per_address": 0}, 500, 500),
        ({"http_connections": 0}, 1, 1),
    ],
)
def test_descriptors_are_left_for_others(
    settings: dict[str, Any], in_all: int, per_address: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1000, 4000))
    bounds = ConnectionBounds.of(Settings(**settings))
    assert sum(bounds.enter("192.0.2.1") for _ in range(1000)) == per_address
    assert per_address + sum(
        bounds.enter(f"192.0.3.{number}") for number in range(250) for _ in range(4)
    ) == max(in_all, per_address)
    assert most_grpc_connections() == 250


def test_the_limit_of_descriptors_is_raised() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
    try:
        raise_descriptor_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_without_descriptors_a_waiting_connection_is_closed_at_once() -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    with closing(BoundedListener(listening, ConnectionBounds(10, 10))) as listener:
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        with no_descriptors_left(), pytest.raises(BlockingIOError):
            listener.accept()
        assert await reader.read() == b""
        writer.close()
        with pytest.raises(BlockingIOError):  # it waits no more, so the event loop does not spin
            listener.accept()


@contextmanager
def no_descriptors_left() -> Iterator[None]:
    """Use all descriptors up to one above the highest."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(each.name) for each in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
    taken = []
    try:
        with suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        yield
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
