"""A whole Ingot of separate processes, as on several machines: each is restarted when it dies.

API servers, workers and a worker for conversions reach Redis through a link and the bucket through
a gateway, where faults happen. Everything is below one temporary directory, whose name is in the
environment of every process: so the processes that are left can be found.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import TextIO

from ingot_server.config import Settings
from ingot_server.local.local_servers import SeaweedFS, valkey_executable
from ingot_server.local.ports import Ports
from ingot_server.process.supervisor import Program, SupervisedProgram
from ingot_server.setting_values import ByteSize, Secret
from tests.chaos.clocks import Clocks
from tests.chaos.gateway import Gateway, running_gateway
from tests.chaos.rabbitmq import rabbitmq
from tests.chaos.redis_pair import HOST, RedisPair, redis_pair
from tests.installation import descendants
from tests.servers import minio_program, redis_executable

STOP_SECONDS = 20.0
SERVER, WORKER, CONVERTER = "API server", "worker", "conversion worker"
_COMMANDS = {SERVER: "serve", WORKER: "worker", CONVERTER: "worker --convert"}
_LOG = "processes.log"
_READY = {
    SERVER: re.compile("serving gRPC on"),
    WORKER: re.compile("ready for [0-9]+ jobs"),
    CONVERTER: re.compile("ready for [0-9]+ conversions"),
}
_ENDED = re.compile(r"ingot-server: (.+) (ended with|was killed by) \w+; it is started again")
# Short times, so that what a fault breaks off goes on within seconds.
SETTINGS = Settings(
    http_address="",
    egress_allow_loopback=True,
    lease=timedelta(seconds=3),
    resend_interval=timedelta(seconds=2),
    retry_backoff=timedelta(milliseconds=300),
    attempts=5,
    worker_losses=8,
    worker_slots=8,
    stall_timeout=timedelta(seconds=6),
    connect_timeout=timedelta(seconds=4),
    existence_timeout=timedelta(seconds=1),
    extraction_timeout=timedelta(seconds=30),
    negative_ttl=timedelta(seconds=5),
    extractor_check_interval=timedelta(0),
    gc_interval=timedelta(0),
    scrub_interval=timedelta(0),
    shutdown_timeout=timedelta(seconds=2),
)
# While jobs run, gc keeps what is younger: no job of a run takes that long.
GC_GRACE = timedelta(minutes=2)
# What scratch may use, unless a fault takes it away.
SPARE_BYTES = 3 << 30


class Cluster:
    """The processes of one run; made by `running_cluster`."""

    def __init__(
        self,
        directory: Path,
        settings: Settings,
        direct_s3: Settings,
        redis: RedisPair,
        s3: SupervisedProgram,
        gateway: Gateway,
        clocks: Clocks,
        log: TextIO,
    ) -> None:
        self.directory = directory
        self.clocks = clocks
        self.settings = settings
        """What the processes have."""
        self.home = directory / "home"
        """Where they are started."""
        self._direct_s3 = direct_s3
        self.redis = redis
        self.s3 = s3
        self.gateway = gateway
        self.addresses: list[str] = []
        """Of the API servers."""
        self.programs: dict[str, list[SupervisedProgram]] = {kind: [] for kind in _COMMANDS}
        self._log = log
        self.home.mkdir()

    @property
    def direct_settings(self) -> Settings:
        """Settings that lead to Redis and the bucket without faults."""
        return self._direct_s3.replace(redis_url=self.redis.direct_url)

    async def start(self, kind: str, count: int, ports: Ports) -> None:
        """Start `count` processes of a kind and wait until they are ready."""
        started = []
        for number in range(count):
            name, settings = f"{kind} {number + 1}", self.settings
            if kind == SERVER:
                address = f"{HOST}:{ports.reserve(HOST)}"
                settings = settings.replace(grpc_address=address)
                self.addresses.append(address)
            program = Program(
                name=name,
                arguments=(sys.executable, "-m", "ingot_server.cli", *_COMMANDS[kind].split()),
                environment={**settings.environment(), **self.clocks.environment(name)},
                directory=self.home,
                ready=_READY[kind],
            )
            child = SupervisedProgram(program, log=self._log)
            child.start()
            started.append(child)
        self.programs[kind] += started
        for child in started:
            await child.wait_until_ready()

    async def stop(self) -> None:
        """Stop all processes of Ingot as an operator does."""
        children = [child for kind in _COMMANDS for child in self.programs[kind]]
        await asyncio.gather(*(child.stop(STOP_SECONDS) for child in children))

    def pids(self, kind: str) -> list[int]:
        """The processes of this kind that run now."""
        return [child.pid for child in self.programs[kind] if child.pid is not None]

    def children(self, of: str) -> list[int]:
        """The processes below those of this kind, the fork servers first."""
        return [child for pid in self.pids(of) for child in descendants(pid)]

    def ended_processes(self) -> list[str]:
        """What the log says of processes that ended, after they were ready, without a signal."""
        kinds = {child.program.name: kind for kind in _COMMANDS for child in self.programs[kind]}
        ready: set[str] = set()
        found = []
        for line in (self.directory / _LOG).read_text(errors="replace").splitlines():
            if ended := _ENDED.match(line):
                if ended[1] in ready and ended[2] == "ended with":
                    found.append(line)
                ready.discard(ended[1])
            for name, kind in kinds.items():
                if line.startswith(name) and _READY[kind].search(line):
                    ready.add(name)
        return found

    def left_processes(self) -> list[str]:
        """The processes of this cluster's Ingot that still run, whoever started them."""
        marks = [str(self.home).encode(), str(self.settings.scratch_dir).encode()]
        return [
            f"{pid} {command}"
            for pid, (command, texts) in _processes().items()
            if any(mark in text for mark in marks for text in texts)
        ]


def fork_servers(pids: list[int]) -> list[int]:
    """Those of the processes that fork children for jobs."""
    return [pid for pid in pids if _runs_fork_server(pid) and not _runs_fork_server(_parent(pid))]


def job_children(pids: list[int]) -> list[int]:
    """Those of the processes that work for one job: extraction, probe, ffmpeg."""
    servers = set(fork_servers(pids))
    return [pid for pid in pids if pid not in servers]


def _processes() -> dict[int, tuple[str, list[bytes]]]:
    """Of each process the command line, and what may tell whose it is."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
            texts = [
                command,
                (folder / "environ").read_bytes(),
                os.fsencode((folder / "cwd").readlink()),
            ]
        except OSError:
            continue
        found[int(folder.name)] = command.replace(b"\0", b" ").decode(), texts
    return found


def _runs_fork_server(pid: int) -> bool:
    try:
        return b"fork_server_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


@asynccontextmanager
async def running_cluster(
    directory: Path,
    *,
    stack_name: str,
    chance: random.Random,
    settings: Settings = SETTINGS,
    broker: str = "redis",
    servers: int = 2,
    workers: int = 2,
) -> AsyncIterator[Cluster]:
    """All processes, from when jobs can run. Raises ServerMissing."""
    scratch = directory / "scratch"
    async with AsyncExitStack() as stack:
        log = stack.enter_context((directory / _LOG).open("w", buffering=1))
        ports = stack.enter_context(Ports())
        redis_name, s3_name = stack_name.split("-")
        executable = valkey_executable() if redis_name == "valkey" else redis_executable()
        if s3_name == "seaweedfs":
            seaweedfs = SeaweedFS.open(directory / "s3", ports)
            stack.callback(seaweedfs.remove_sockets)
            program = seaweedfs.program()
            access = (seaweedfs.endpoint, seaweedfs.access_key, str(seaweedfs.secret_key))
        else:
            program, access = minio_program(directory / "s3", ports)
        s3 = SupervisedProgram(program, log=log)
        s3.start()
        stack.push_async_callback(s3.stop, 1.0)
        pair = await stack.enter_async_context(redis_pair(executable, directory, log))
        await s3.wait_until_ready()
        gateway, address = await stack.enter_async_context(running_gateway(access[0], chance))
        broker_url = (
            await stack.enter_async_context(rabbitmq(directory / "rabbitmq", log))
            if broker == "rabbitmq"
            else ""
        )
        settings = settings.replace(
            redis_url=pair.url,
            broker_url=broker_url,
            scratch_reserve=ByteSize(max(0, shutil.disk_usage(directory).free - SPARE_BYTES)),
            s3_endpoint=address,
            s3_access_key=access[1],
            s3_secret_key=Secret(access[2]),
            s3_bucket=f"chaos-{os.getpid()}",
            scratch_dir=scratch,
            data_dir=directory / "data",
        )
        cluster = Cluster(
            directory,
            settings,
            settings.replace(s3_endpoint=access[0]),
            pair,
            s3,
            gateway,
            Clocks(directory / "clocks"),
            log,
        )
        stack.push_async_callback(cluster.stop)
        await cluster.start(SERVER, servers, ports)
        await asyncio.gather(
            cluster.start(WORKER, workers, ports), cluster.start(CONVERTER, 1, ports)
        )
        yield cluster
