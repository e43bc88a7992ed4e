"""`ingot-server serve` as it is run in production: stores of its own, several processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

import pytest

from ingot import Client
from ingot_server.process.launch import launch_command
from tests.installation import descendants
from tests.servers import Stores, stores
from tests.waiting import TIMEOUT_SECONDS


@pytest.fixture(scope="module")
def running_stores() -> Iterator[Stores]:
    with stores("valkey-seaweedfs") as running:
        yield running


@contextmanager
def serve(running: Stores, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        launch_command(
            *(sys.executable, "-m", "ingot_server.cli", "serve", "--http-address", "", *arguments)
        ),
        stderr=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            **{f"INGOT_{name.upper()}": value for name, value in asdict(running).items()},
        },
    )
    assert process.stderr is not None
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(TIMEOUT_SECONDS)
        process.stderr.close()


def address_of(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if "ingot_server.local.replicas: serving gRPC on" in line:
            return line.split()[-1]
    raise AssertionError("".join(lines))


async def test_processes_share_a_port_and_one_that_dies_is_replaced(
    running_stores: Stores,
) -> None:
    with serve(running_stores, "--grpc-address", "127.0.0.1:0", "--processes", "2") as process:
        address = address_of(process)
        servers = descendants(process.pid)
        assert len(servers) == 2

        os.kill(servers[0], signal.SIGKILL)

        for _ in range(10):
            async with Client(address) as client:
                assert [media async for media in client.list_media()] == []


def test_a_port_in_use_is_named(running_stores: Stores) -> None:
    with serve(running_stores, "--grpc-address", "127.0.0.1:0", "--processes", "2") as first:
        address = address_of(first)
        with serve(running_stores, "--grpc-address", address, "--processes", "2") as second:
            assert second.stderr is not None
            message = second.stderr.read()

            assert second.wait(TIMEOUT_SECONDS) == 2
            assert address.rpartition(":")[2] in message


@pytest.mark.parametrize("ignored", [False, True])
def test_hangup_stops_a_server_unless_it_was_ignored_from_the_start(
    running_stores: Stores, ignored: bool
) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
    try:
        with serve(running_stores, "--grpc-address", "127.0.0.1:0") as process:
            assert process.stderr is not None
            assert any("serving gRPC on" in line for line in process.stderr)
            process.send_signal(signal.SIGHUP)
            if ignored:
                with pytest.raises(subprocess.TimeoutExpired):
                    process.wait(0.5)
            else:
                assert process.wait(TIMEOUT_SECONDS) == 0
    finally:
        signal.signal(signal.SIGHUP, before)
