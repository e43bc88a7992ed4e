"""`ingot-server up` as people treat it: started twice, interrupted, killed, pointed elsewhere."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingot import Client
from ingot_server.process.launch import launch_command
from tests.installation import Installation, descendants, installation
from tests.servers import stores
from tests.waiting import TIMEOUT_SECONDS

ROLES = ("valkey-server", "weed", "serve", "worker")


def up(data_dir: Path, grpc_address: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        launch_command(
            *(sys.executable, "-m", "ingot_server.cli", "up"),
            *("--data-dir", str(data_dir), "--grpc-address", grpc_address),
            *("--http-address", "127.0.0.1:0"),
        ),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )


def child(ingot: Installation, role: str, *, other_than: int = 0) -> int:
    """The one child that runs `role`; it may still be on its way."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        found = ingot.children(role)
        if found and found != [other_than]:
            assert len(found) == 1
            return found[0]
        time.sleep(0.02)
    raise AssertionError(f"no {role} in\n" + "".join(ingot.output))


@pytest.fixture
def ingot(tmp_path: Path) -> Iterator[Installation]:
    with installation(tmp_path / "data", workers="1") as running:
        yield running


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """One for all tests that it outlives."""
    rules = tmp_path_factory.mktemp("rules") / "retention.toml"
    rules.write_text('[[rule]]\nname = "disk"\nmin_free = "1"\n')
    settings = {"workers": "1", "convert_workers": "0", "retention_file": str(rules)}
    with installation(tmp_path_factory.mktemp("ingot"), **settings) as running:
        yield running


def test_a_second_one_says_what_is_taken(lasting: Installation, tmp_path: Path) -> None:
    second = up(lasting.data_dir, "127.0.0.1:0")
    assert second.returncode == 2
    assert f"process {lasting.process.pid}" in second.stderr
    elsewhere = up(tmp_path / "other", lasting.grpc_address)
    assert elsewhere.returncode == 2
    assert f"port {lasting.grpc_address.rpartition(':')[2]} " in elsewhere.stderr
    assert lasting.process.poll() is None


def test_its_workers_take_rules_by_the_free_space_of_its_disk(lasting: Installation) -> None:
    worker = child(lasting, "worker")
    given = Path(f"/proc/{worker}/environ").read_bytes().split(b"\0")
    assert f"INGOT_BUCKET_DIR={lasting.data_dir / 's3'}".encode() in given
    assert not [line for line in lasting.output if "INGOT_RETENTION_FILE" in line]


@pytest.mark.parametrize("role", ROLES)
def test_a_child_that_dies_is_named_and_started_again(lasting: Installation, role: str) -> None:
    names = {"valkey-server": "redis", "weed": "s3", "serve": "serve", "worker": "worker 1"}
    first = child(lasting, role)
    os.kill(first, signal.SIGKILL)
    lasting.wait_for(f"^ingot-server: {names[role]} was killed by SIGKILL; it is started again")
    child(lasting, role, other_than=first)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_stops_all_within_five_seconds(
    ingot: Installation, number: signal.Signals
) -> None:
    children = descendants(ingot.process.pid)
    assert len(children) >= len(ROLES)
    # A client is connected.
    host, _, port = ingot.grpc_address.rpartition(":")
    with socket.create_connection((host, int(port))):
        begin = time.monotonic()
        ingot.process.send_signal(number)
        assert ingot.process.wait(TIMEOUT_SECONDS) == 0
    assert time.monotonic() - begin < 20, "five on a machine that has the time"
    # The kernel ends what the workers had started.
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while left := [pid for pid in children if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < deadline, left
        time.sleep(0.02)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends orphans on Linux only")
def test_none_outlives_it_when_it_is_killed_and_the_next_one_starts(ingot: Installation) -> None:
    children = [os.pidfd_open(child(ingot, role)) for role in ROLES]
    ingot.process.kill()
    for handle in children:
        assert select.select([handle], [], [], TIMEOUT_SECONDS)[0]
        os.close(handle)
    with installation(ingot.data_dir, workers="0") as again:
        assert again.s3_settings().s3_secret_key == ingot.s3_settings().s3_secret_key


async def test_each_line_of_the_log_can_be_an_event_in_json(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0), backlog=0) as source,
        installation(tmp_path / "data", workers="1", log_format="json") as ingot,
    ):
        port = source.getsockname()[1]
        source.close()
        async with Client(ingot.grpc_address) as client:
            job = await client.ingest_video(f"http://127.0.0.1:{port}/clip.mp4")
        found = ingot.wait_for(rf'^{{.*"event": "attempt_failed".*"{job.id}".*}}$')
        event = json.loads(found[0])
        assert event["job_id"] == job.id
        assert event["reason"] == "SOURCE_UNREACHABLE"
        assert event["program"] == "worker 1"
        os.kill(child(ingot, "worker"), signal.SIGKILL)
        ingot.wait_for('^{.*"event": "program_ended".*"program": "worker 1"')
    addresses = ("gRPC ", "HTTP ", "page ", "S3 ", "Redis ", "data ")
    for line in ingot.output:
        assert line.startswith(addresses) or "event" in json.loads(line), line


def test_a_store_that_settings_name_is_not_started(tmp_path: Path) -> None:
    with (
        stores("valkey-seaweedfs") as others,
        installation(
            tmp_path / "data",
            workers="0",
            redis_url=others.redis_url,
            s3_endpoint=others.s3_endpoint,
            s3_access_key=others.s3_access_key,
            s3_secret_key=others.s3_secret_key,
        ) as ingot,
    ):
        assert ingot.redis_url == others.redis_url
        assert not ingot.children("valkey-server")
        assert not ingot.children("weed")
        assert ingot.children("serve")
