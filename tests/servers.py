"""Real servers for the tests: each is started on free ports or a socket, and killed at the end."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ingot_server.local.local_servers import HOST, SeaweedFS, redis_program, valkey_executable
from ingot_server.local.ports import Ports
from ingot_server.process.launch import launch_command
from ingot_server.process.supervisor import Program
from tests.leaks import MARK, assert_no_leak

START_SECONDS = 120.0
_MINIO_PASSWORD = f"ingot-tests-{MARK}"
MINIO_BUILT = Path(__file__).parents[1] / ".cache" / "bin" / "minio"


@dataclass(frozen=True, slots=True)
class Stores:
    """A Redis and an S3 that run, as settings name them."""

    redis_url: str
    s3_endpoint: str
    s3_access_key: str
    s3_secret_key: str


class ServerMissing(Exception):
    """A server that this machine does not have."""


STACKS = ("valkey-seaweedfs", "redis-minio")


@contextlib.contextmanager
def stores(stack: str) -> Iterator[Stores]:
    """Runs the Redis and the S3 server that the name of `stack` says. Raises ServerMissing."""
    executables = {"valkey": valkey_executable, "redis": redis_executable}
    redis, s3 = stack.split("-")
    # A socket's path may be no longer than 104 bytes, so not below pytest's own directories.
    with tempfile.TemporaryDirectory(prefix="ingot-") as folder, contextlib.ExitStack() as running:
        directory = Path(folder)
        unix_socket = directory / "redis.sock"
        program = redis_program(executables[redis](), directory / "redis", unix_socket)
        blobs = seaweedfs(directory / "s3") if s3 == "seaweedfs" else minio(directory / "s3")
        running.enter_context(process(program))
        found = Stores(f"unix://{unix_socket}", **running.enter_context(blobs))
        yield found
        assert_no_leak(directory, (), found.s3_secret_key)


@contextlib.contextmanager
def seaweedfs(directory: Path) -> Iterator[dict[str, str]]:
    """SeaweedFS as embedded mode runs it; yields the S3 settings that lead to it."""
    with Ports() as ports:
        server = SeaweedFS.open(directory, ports)
        try:
            with process(server.program()):
                yield _settings(server.endpoint, server.access_key, server.secret_key)
        finally:
            server.remove_sockets()


@contextlib.contextmanager
def minio(directory: Path) -> Iterator[dict[str, str]]:
    """The real MinIO; yields the S3 settings that lead to it. Raises ServerMissing."""
    with Ports() as ports:
        program, access = minio_program(directory, ports)
        with process(program):
            yield _settings(*access)


def minio_program(directory: Path, ports: Ports) -> tuple[Program, tuple[str, str, str]]:
    """How to run MinIO while `ports` is open, and its endpoint and keys. Raises ServerMissing."""
    found = shutil.which("minio") or (str(MINIO_BUILT) if MINIO_BUILT.exists() else None)
    if found is None:
        raise ServerMissing(f"minio is neither in the PATH nor at {MINIO_BUILT}")
    port, console_port = ports.reserve(HOST), ports.reserve(HOST)
    program = Program(
        name="minio",
        arguments=(
            *(found, "server", str(directory), "--address", f"{HOST}:{port}"),
            *("--console-address", f"{HOST}:{console_port}"),
        ),
        environment={
            "MINIO_ROOT_USER": "ingot-tests",
            "MINIO_ROOT_PASSWORD": _MINIO_PASSWORD,
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",
        },
        ready=re.compile("^API: "),
    )
    return program, (f"{HOST}:{port}", "ingot-tests", _MINIO_PASSWORD)


@contextlib.contextmanager
def process(program: Program) -> Iterator[subprocess.Popen[str]]:
    """Runs `program` from when it says that it is ready until the context is left."""
    child = subprocess.Popen(
        launch_command(*program.arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **program.environment},
        cwd=program.directory,
        start_new_session=True,
    )
    ready = threading.Event()
    last_lines: deque[str] = deque(maxlen=20)

    def read() -> None:
        assert child.stdout is not None
        for line in child.stdout:
            last_lines.append(line)
            if program.ready is None or program.ready.search(line):
                ready.set()
        ready.set()  # it ended

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        if not ready.wait(START_SECONDS) or child.poll() is not None:
            raise RuntimeError(f"{program.name} did not start:\n{''.join(last_lines)}")
        yield child
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        reader.join()
        assert child.stdout is not None
        child.stdout.close()


def redis_executable() -> Path:
    """Raises ServerMissing."""
    found = shutil.which("redis-server")
    if found is None:
        raise ServerMissing("redis-server is not in the PATH")
    return Path(found)


def _settings(endpoint: str, access_key: str, secret_key: str) -> dict[str, str]:
    return {"s3_endpoint": endpoint, "s3_access_key": access_key, "s3_secret_key": secret_key}
