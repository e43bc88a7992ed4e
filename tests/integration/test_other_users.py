"""What embedded mode starts obeys this user alone: another user of the machine tries."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ingot_server.local.local_servers import SeaweedFS, redis_program, valkey_executable
from ingot_server.local.ports import Ports
from tests.certificates import Authority
from tests.servers import process

NOBODY = 65534

# It has no imports from outside the standard library, because Ingot may be installed where another
# user cannot read it. It prints what it got at.
STRANGER = """
    import json, os, socket, ssl, sys
    tried = json.load(sys.stdin)
    got = []

    def answer(connection):
        connection.settimeout(10)
        settings = bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
        connection.sendall(b"PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n" + settings)
        # Frame type 4 is SETTINGS, with which a server of HTTP/2 begins.
        head = connection.recv(9)
        return len(head) > 3 and head[3] == 4

    def tls(connection, pair):
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        if pair:
            context.load_cert_chain(*pair)
        return context.wrap_socket(connection)

    for port in tried["ports"]:
        for name, wrap in (
            ("plain", lambda connection: connection),
            ("no certificate", lambda connection: tls(connection, None)),
            ("own certificate", lambda connection: tls(connection, tried["pair"])),
        ):
            try:
                with socket.create_connection(("127.0.0.1", port), 10) as connection:
                    with wrap(connection) as wrapped:
                        if answer(wrapped):
                            got.append(f"port {port}: {name}")
            except (ssl.SSLError, ConnectionError):
                pass
    for path in tried["sockets"]:
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(path)
                got.append(path)
        except PermissionError:
            pass
    for path in tried["files"]:
        try:
            open(path).close()
            got.append(path)
        except PermissionError:
            pass
    print(json.dumps({"uid": os.getuid(), "got": got}))
    """


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory that everyone may enter, so that only the modes of what is in it protect it."""
    with tempfile.TemporaryDirectory(prefix="ingot-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_another_user_reaches_neither_seaweedfs_nor_redis(directory: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    data, redis_socket = directory / "data", directory / "data" / "redis" / "redis.sock"
    own = directory / "own"
    own.mkdir()
    with Ports() as ports, ExitStack() as running:
        server = SeaweedFS.open(data, ports)
        running.callback(server.remove_sockets)
        running.enter_context(process(server.program()))
        redis_socket.parent.mkdir()
        running.enter_context(
            process(redis_program(valkey_executable(), redis_socket.parent, redis_socket))
        )
        grpc_ports = {part: port for part, port in server.ports.items() if part.endswith(".grpc")}
        sockets = [*(data / "run").glob("*.sock"), redis_socket]
        for part, port in grpc_ports.items():
            name = part.replace(".", "-")
            sockets += Path("/tmp").glob(f"seaweedfs-{name}-{port}.sock")
        files = [each for each in data.iterdir() if each.is_file()]
        assert len(grpc_ports) == 5
        assert len(sockets) >= 3
        assert {each.name for each in files} >= {"grpc-key.pem", "security.toml", "s3.json"}

        pair = Authority(own).issue("stranger")
        pair.key.chmod(0o644)
        found = stranger(
            {
                "ports": list(grpc_ports.values()),
                "pair": [str(pair.certificate), str(pair.key)],
                "sockets": [str(each) for each in sockets],
                "files": [str(each) for each in files],
            },
            directory,
        )

    assert found == {"uid": NOBODY, "got": []}


def stranger(tried: dict[str, object], directory: Path) -> object:
    """Run STRANGER as the user nobody, and return what it prints."""
    python = shutil.which("python3", path="/usr/local/bin:/usr/bin") or sys.executable
    try:
        result = subprocess.run(
            [python, "-I", "-S", "-c", textwrap.dedent(STRANGER)],
            input=json.dumps(tried),
            capture_output=True,
            text=True,
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
            cwd=directory,
        )
    except PermissionError:
        pytest.skip("another user cannot run this Python")
    assert result.returncode == 0, result.stderr
    found: object = json.loads(result.stdout)
    return found
