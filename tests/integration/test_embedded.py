"""Embedded mode's parts on their own: supervision, the place that it takes, and SeaweedFS."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import textwrap
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import redis.asyncio
from minio import Minio

from ingot_server.local.datadir_lock import lock_data_dir
from ingot_server.local.local_servers import SeaweedFS, redis_program, valkey_executable
from ingot_server.local.ports import Ports, socket_path
from ingot_server.process.supervisor import Program, ProgramFailed, SupervisedProgram
from ingot_server.setting_values import SettingError
from tests.servers import process
from tests.waiting import TIMEOUT_SECONDS, until


def python(code: str, *, ready: str | None = "ready") -> Program:
    return Program(
        name="part",
        arguments=(sys.executable, "-I", "-S", "-u", "-c", textwrap.dedent(code)),
        ready=None if ready is None else re.compile(ready),
    )


STEADY = """
    import time
    print("ready")
    time.sleep(600)
    """
STUBBORN = """
    import signal, subprocess, sys, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    code = "import time; time.sleep(600)"
    grandchild = subprocess.Popen([sys.executable, "-I", "-S", "-c", code])
    print("ready", grandchild.pid)
    time.sleep(600)
    """


@contextlib.asynccontextmanager
async def running(program: Program, log: io.StringIO) -> AsyncIterator[SupervisedProgram]:
    child = SupervisedProgram(program, log=log)
    child.start()
    try:
        await child.wait_until_ready()
        yield child
    finally:
        child.kill()
        await child.stop(1)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


async def test_a_child_that_dies_is_named_and_started_again() -> None:
    log = io.StringIO()
    async with running(python(STEADY), log) as child:
        first = child.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await until(lambda: child.pid not in (first, None))
        assert "part was killed by SIGKILL; it is started again in 0.2 s" in log.getvalue()
        second = child.pid
    assert second is not None
    assert not is_alive(second)


async def test_a_child_that_cannot_start_says_why() -> None:
    child = SupervisedProgram(
        Program(
            name="part",
            arguments=(sys.executable, "-c", "import sys; print('no room'); sys.exit(3)"),
            ready=re.compile("ready"),
            shown=re.compile("nothing like it"),
        ),
        log=io.StringIO(),
    )
    child.start()
    with pytest.raises(ProgramFailed, match=r"part ended with 3 before it was ready.\n  no room"):
        await child.wait_until_ready()
    await child.stop(1)


async def test_a_child_that_does_not_listen_is_killed_with_all_below_it() -> None:
    log = io.StringIO()
    async with running(python(STUBBORN), log) as child:
        match = re.search(r"ready (\d+)", log.getvalue())
        assert match is not None
        grandchild = int(match[1])
        assert is_alive(grandchild)
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await child.stop(0.3)
        assert child.pid is None
    # Its signal is sent; the kernel may take a moment.
    await until(lambda: not is_alive(grandchild))
    assert "is killed" in log.getvalue()


async def test_an_endless_line_does_no_harm() -> None:
    log = io.StringIO()
    code = "print('x' * 1_000_000, end='', flush=True); print(); print('ready'); input()"
    async with running(python(f"import time\n{code.replace('input()', 'time.sleep(600)')}"), log):
        assert log.getvalue().count("x") == 1_000_000


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends orphans on Linux only")
def test_no_child_outlives_a_supervisor_that_was_killed() -> None:
    code = f"""
        import asyncio, re, sys
        from ingot_server.process.supervisor import SupervisedProgram, Program

        async def main():
            child = SupervisedProgram(
                Program(
                    name="part",
                    arguments=(sys.executable, "-c", {textwrap.dedent(STEADY)!r}),
                    ready=re.compile(""),
                ),
                log=sys.stderr,
            )
            child.start()
            while child.pid is None:
                await asyncio.sleep(0.01)
            print(child.pid, flush=True)
            await asyncio.sleep(600)

        asyncio.run(main())
        """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True
    ) as supervisor:
        assert supervisor.stdout is not None
        pid = int(supervisor.stdout.readline())
        child = os.pidfd_open(pid)
        try:
            supervisor.kill()
            import select

            readable, _, _ = select.select([child], [], [], TIMEOUT_SECONDS)
            assert readable, "the child lives on"
        finally:
            os.close(child)


async def test_a_directory_is_used_by_one_only(tmp_path: Path) -> None:
    async with lock_data_dir(tmp_path / "data"):
        with pytest.raises(SettingError, match=rf"process {os.getpid()}\) is running on .*data"):
            async with lock_data_dir(tmp_path / "data"):
                pass
    async with lock_data_dir(tmp_path / "data"):
        pass


async def test_a_directory_is_in_use_as_long_as_a_child_is(tmp_path: Path) -> None:
    async with lock_data_dir(tmp_path) as lock:
        child = SupervisedProgram(python(STEADY), inherited_fds=(lock,), log=io.StringIO())
        child.start()
        await child.wait_until_ready()
    with pytest.raises(SettingError, match="another"):
        async with lock_data_dir(tmp_path):
            pass
    await child.stop(1)
    async with lock_data_dir(tmp_path):
        pass


async def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingError, match=r"INGOT_DATA_DIR: .*file/data cannot be used"):
        async with lock_data_dir(tmp_path / "file" / "data"):
            pass


@pytest.fixture
def ports() -> Iterator[Ports]:
    with Ports() as taken:
        yield taken


def test_a_port_in_use_is_named(ports: Ports) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(SettingError, match=f"INGOT_GRPC_ADDRESS: port {port} of 127.0.0.1"):
            ports.reserve_address("INGOT_GRPC_ADDRESS", f"127.0.0.1:{port}")
    assert ports.reserve_address("INGOT_GRPC_ADDRESS", f"127.0.0.1:{port}") == f"127.0.0.1:{port}"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "", "0.0.0.0"])
def test_port_0_takes_a_free_one(host: str, ports: Ports) -> None:
    found = ports.reserve_address("INGOT_GRPC_ADDRESS", f"{host}:0")
    assert re.fullmatch(rf"{re.escape(host)}:[1-9]\d+", found)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says which ports it chooses")
def test_a_free_port_is_one_that_nothing_gets_by_chance_while_ingot_is_stopped(
    ports: Ports,
) -> None:
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    if lowest <= 20_000:
        pytest.skip("this system chooses among all ports")
    found = [ports.reserve("127.0.0.1") for _ in range(50)]
    assert len(set(found)) == 50
    assert max(found) < lowest


@pytest.mark.parametrize("address", ["", "50051", "localhost", "localhost:grpc", "h:70000"])
def test_an_address_that_is_none_is_refused(address: str, ports: Ports) -> None:
    with pytest.raises(SettingError, match="INGOT_GRPC_ADDRESS"):
        ports.reserve_address("INGOT_GRPC_ADDRESS", address)


IP_LOCAL_PORT_RANGE = 51  # ip(7), since Linux 6.3


def cannot_be_had(port: int) -> None:
    """Another program asks for any port, or connects from any, with no choice but this one."""
    with socket.create_server(("127.0.0.1", 0)) as other, contextlib.ExitStack() as asking:
        strangers = [asking.enter_context(socket.socket()) for _ in range(3)]
        strangers[1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for stranger in strangers:
            try:
                only = struct.pack("I", port << 16 | port)
                stranger.setsockopt(socket.IPPROTO_IP, IP_LOCAL_PORT_RANGE, only)
            except OSError:
                pytest.skip("this kernel cannot make the race happen")
        for stranger in strangers[:2]:
            with pytest.raises(OSError, match="in use"):
                stranger.bind(("127.0.0.1", 0))
        with pytest.raises(OSError, match="assign"):
            strangers[2].connect(other.getsockname())


@pytest.mark.skipif(sys.platform != "linux", reason="a port is reserved on Linux only")
def test_no_other_process_gets_a_port_before_its_server_or_between_two(ports: Ports) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        port: int = other.getsockname()[1]
    ports.reserve("127.0.0.1", port)
    cannot_be_had(port)
    with socket.create_server(("127.0.0.1", port)):
        cannot_be_had(port)
    cannot_be_had(port)
    with socket.create_server(("127.0.0.1", port)):
        pass


async def test_redis_runs_from_a_directory_whose_path_is_long(tmp_path: Path) -> None:
    directory = tmp_path / ("long" * 30) / "redis"
    directory.mkdir(parents=True)
    path = socket_path(directory, "redis.sock")
    assert path == socket_path(directory, "redis.sock")
    assert path.parent.stat().st_mode & 0o077 == 0
    url = f"unix://{path}"
    try:
        # Killed at the end, and its data is there again.
        with process(redis_program(valkey_executable(), directory, path)):
            async with redis.asyncio.Redis.from_url(url) as connection:
                await connection.set("kept", "yes")
        with process(redis_program(valkey_executable(), directory, path)):
            async with redis.asyncio.Redis.from_url(url) as connection:
                assert await connection.get("kept") == b"yes"
    finally:
        path.unlink(missing_ok=True)
        path.parent.rmdir()


def s3(server: SeaweedFS) -> Minio:
    return Minio(
        server.endpoint, server.access_key, server.secret_key, secure=False, region="us-east-1"
    )


@pytest.fixture
def seaweedfs(tmp_path: Path, ports: Ports) -> Iterator[SeaweedFS]:
    server = SeaweedFS.open(tmp_path, ports)
    yield server
    server.remove_sockets()


def test_blobs_survive_a_kill_and_keep_their_keys_to_themselves(
    seaweedfs: SeaweedFS, ports: Ports, tmp_path: Path
) -> None:
    for port in seaweedfs.ports.values():
        with socket.socket() as stranger, pytest.raises(OSError, match="in use"):
            stranger.bind(("127.0.0.1", port))
    with process(seaweedfs.program()):
        client = s3(seaweedfs)
        client.make_bucket("ingot")
        client.put_object("ingot", "media/a", io.BytesIO(b"content"), 7)
    for name in ("s3.json", "identities.json", "security.toml"):
        assert (tmp_path / name).stat().st_mode & 0o077 == 0
    again = SeaweedFS.open(tmp_path, ports)
    assert again == seaweedfs
    assert again.secret_key not in repr(again)
    with process(again.program()):
        response = s3(again).get_object("ingot", "media/a")
        assert response.read() == b"content"
        response.close()


def test_a_port_that_was_taken_meanwhile_is_replaced(
    seaweedfs: SeaweedFS, ports: Ports, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", seaweedfs.ports["filer"])):
        again = SeaweedFS.open(tmp_path, ports)
    assert not set(again.ports.values()) & {seaweedfs.ports["filer"]}
    assert again.secret_key == seaweedfs.secret_key


async def test_only_signed_requests_get_anything_and_space_comes_back(
    seaweedfs: SeaweedFS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with process(seaweedfs.program()) as server:
        client = s3(seaweedfs)
        client.make_bucket("ingot")
        size = 8 << 20
        for name in ("a", "b"):
            client.put_object("ingot", name, io.BytesIO(os.urandom(size)), size)
        await asyncio.to_thread(refuses_strangers, seaweedfs)
        loopback_only(server.pid)

        client.remove_object("ingot", "a")
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # nothing is there to ask
        monkeypatch.delenv("no_proxy", raising=False)
        while used(tmp_path) > 1.5 * size:
            await seaweedfs.vacuum()
            await asyncio.sleep(0.1)
        response = client.get_object("ingot", "b")
        assert len(response.read()) == size
        response.close()


def refuses_strangers(server: SeaweedFS) -> None:
    ports = server.ports
    for address in (
        f"{ports['s3']}/ingot/a",
        f"{ports['filer']}/buckets/ingot/a",
        f"{ports['master']}/dir/assign",
        f"{ports['master']}/col/delete?collection=ingot",
        f"{ports['volume']}/1,0100000000",
    ):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"http://127.0.0.1:{address}")
        assert refused.value.code in (401, 403, 404)
        refused.value.close()


def loopback_only(pid: int) -> None:
    inodes = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            inodes.add(str(entry.readlink()).removeprefix("socket:[").removesuffix("]"))
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                assert fields[1].startswith("0100007F:"), fields[1]


def used(directory: Path) -> int:
    total = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            # What is copied without its garbage goes while it is counted.
            with contextlib.suppress(FileNotFoundError):
                total += Path(folder, name).stat().st_blocks * 512
    return total
