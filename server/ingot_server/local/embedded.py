"""Embedded mode: everything on one machine, from one command.

`up` starts valkey-server and SeaweedFS, unless settings point to other servers, and then children
of this same program: an API server and workers. All of them are the same processes as in
production; only the addresses in their settings differ.

    <data_dir>/
        lock            locked by `up` and by its children: it is free when all of them have ended
        redis/ s3/ ...  see local_servers.py
        extractors/     see extractor/versions.py
        metrics/        see metrics/values.py; empty when `up` starts
        scratch/        unless a setting names another directory

Scratch is on the disk of the local servers, so that `scratch_reserve`, which workers check while
they download, keeps space free for both: SeaweedFS cannot even start on a full disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import sys
from collections.abc import Collection
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from ingot.v1 import reason_pb2
from ingot.v1.reason_pb2 import Reason
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.heartbeat import beating
from ingot_server.local.datadir_lock import lock_data_dir
from ingot_server.local.local_servers import SeaweedFS, redis_program, valkey_executable
from ingot_server.local.ports import Ports, socket_path
from ingot_server.process.stop_signals import stop_signals
from ingot_server.process.supervisor import Program, ProgramFailed, SupervisedProgram
from ingot_server.setting_values import SettingError
from ingot_server.store_urls import without_password

if TYPE_CHECKING:
    from ingot_server.local.s3_relay import S3Relay

# One Ctrl-C stops all within five seconds: the API server and the workers first, then the local
# servers.
_DRAIN: Final = timedelta(seconds=3)
_STOP_SECONDS: Final = 4.0
_LOCAL_SERVER_STOP_SECONDS: Final = 0.7
# Each costs SeaweedFS and this process a connection with TLS.
_VACUUM_SECONDS: Final = 30.0
_RUNS_JOBS: Final = re.compile("ready for [0-9]+ (jobs|conversions)")
_EVERY_ADDRESS: Final = ("0.0.0.0", "[::]")


async def up(settings: Settings, given: Collection[str] = ()) -> None:
    """Run Ingot until a signal stops it (stop_signals.py); a second signal kills all processes.

    `given` names the settings that were set explicitly. If the address of Redis or S3 is among
    them, or is not the default, that server is used, and no local one is started.

    Raises SettingError when a port or the data directory is in use or cannot be used, and Failure
    when a process does not start.
    """
    data_dir = settings.data_dir.absolute()
    async with contextlib.AsyncExitStack() as stack:
        ports = stack.enter_context(Ports())
        settings = settings.replace(
            data_dir=data_dir,
            grpc_address=ports.reserve_address("INGOT_GRPC_ADDRESS", settings.grpc_address),
            http_address=settings.http_address
            and ports.reserve_address("INGOT_HTTP_ADDRESS", settings.http_address),
            s3_address=settings.s3_address
            and ports.reserve_address("INGOT_S3_ADDRESS", settings.s3_address),
            metrics_address=settings.metrics_address
            and ports.reserve_address("INGOT_METRICS_ADDRESS", settings.metrics_address),
            shutdown_timeout=min(settings.shutdown_timeout, _DRAIN),
        )
        lock = await stack.enter_async_context(lock_data_dir(data_dir))
        await stack.enter_async_context(beating(settings, settings.grpc_address))
        settings = settings.replace(heartbeat_file="")
        installation = Installation(settings, given, lock, ports)
        running = asyncio.create_task(installation.run_until_cancelled())

        def stop() -> None:
            if not running.cancelling():
                running.cancel()
            else:
                installation.kill()

        loop = asyncio.get_running_loop()
        signals = stop_signals()
        for number in signals:
            loop.add_signal_handler(number, stop)
        try:
            await asyncio.wait({running})
            if not running.cancelled():
                running.result()
        finally:
            running.cancel()
            await installation.stop()
            for number in signals:
                loop.remove_signal_handler(number)


class Installation:
    """The processes of one run of `up`."""

    def __init__(self, settings: Settings, given: Collection[str], lock: int, ports: Ports) -> None:
        self._settings = settings
        self._given = given
        self._lock = lock
        self._ports = ports
        self._local_servers: list[SupervisedProgram] = []
        self._ingot_processes: list[SupervisedProgram] = []
        self._seaweedfs: SeaweedFS | None = None
        self._s3_relay: S3Relay | None = None
        self._metrics_directory = settings.data_dir / "metrics"

    async def run_until_cancelled(self) -> None:
        """Start everything, print the addresses, and keep it running until cancelled."""
        if not self._is_given("scratch_dir"):
            self._settings = self._settings.replace(scratch_dir=self._settings.data_dir / "scratch")
        if not self._is_given("redis_url"):
            await self._start_redis()
        s3 = None if self._is_given("s3_endpoint") else self._start_s3()
        if self._settings.s3_address:
            await self._start_s3_relay()
        shutil.rmtree(self._metrics_directory, ignore_errors=True)
        self._metrics_directory.mkdir(mode=0o700)
        # All of them start at the same time, and whoever needs the bucket waits for it.
        api = self._start_ingot("serve", "serve", re.compile("serving gRPC on"))
        # The API server has the metrics of all.
        self._settings = self._settings.replace(metrics_address="")
        names = [f"worker {number + 1}" for number in range(self._settings.workers)]
        converting = [f"convert {number + 1}" for number in range(self._settings.convert_workers)]
        # On a small machine, one process for all jobs takes half of the memory of two.
        command = "worker" if converting else "worker --all"
        workers = [
            *(self._start_ingot(name, command, _RUNS_JOBS) for name in names),
            *(self._start_ingot(name, "worker --convert", _RUNS_JOBS) for name in converting),
        ]
        await asyncio.gather(
            *(_wait_until_ready(child) for child in (s3, api) if child is not None)
        )
        await asyncio.gather(*(_wait_until_ready(worker) for worker in workers))
        self._print_addresses()
        while self._seaweedfs is not None:
            await asyncio.sleep(_VACUUM_SECONDS)
            await self._seaweedfs.vacuum()
        await asyncio.Event().wait()

    async def stop(self) -> None:
        """Stop the API server and the workers, then the local servers that they need to the end."""
        if self._s3_relay is not None:
            await self._s3_relay.close()
        for children, kill_after in (
            (self._ingot_processes, _STOP_SECONDS),
            (self._local_servers, _LOCAL_SERVER_STOP_SECONDS),
        ):
            await asyncio.gather(*(child.stop(kill_after) for child in children))
        if self._seaweedfs is not None:
            self._seaweedfs.remove_sockets()

    def kill(self) -> None:
        """Kill every process at once; `stop` then returns at once."""
        for child in (*self._ingot_processes, *self._local_servers):
            child.kill()

    def _is_given(self, name: str) -> bool:
        return name in self._given or getattr(self._settings, name) != getattr(Settings(), name)

    async def _start_redis(self) -> None:
        directory = self._settings.data_dir / "redis"
        directory.mkdir(mode=0o700, exist_ok=True)
        path = socket_path(directory, "redis.sock")
        child = self._start(
            redis_program(valkey_executable(), directory, path), self._local_servers
        )
        await _wait_until_ready(child)
        self._settings = self._settings.replace(redis_url=f"unix://{quote(str(path))}")

    def _start_s3(self) -> SupervisedProgram:
        self._seaweedfs = seaweedfs = SeaweedFS.open(self._settings.data_dir, self._ports)
        self._settings = self._settings.replace(
            s3_endpoint=seaweedfs.endpoint,
            s3_access_key=seaweedfs.access_key,
            s3_secret_key=seaweedfs.secret_key,
            s3_secure=False,
            bucket_dir=str(seaweedfs.data_directory),
        )
        return self._start(seaweedfs.program(), self._local_servers)

    async def _start_s3_relay(self) -> None:
        if self._seaweedfs is None:
            raise SettingError(
                "INGOT_S3_ADDRESS is for the S3 server that `up` starts, but INGOT_S3_ENDPOINT "
                "names another one. Set one of them."
            )
        # Imported here: few need it, and it takes a tenth of the time in which `up` must be ready.
        from ingot_server.local.s3_relay import S3Relay, public_endpoint

        self._settings = self._settings.replace(s3_public_endpoint=public_endpoint(self._settings))
        self._s3_relay = S3Relay(self._settings)
        await self._s3_relay.start()

    def _start_ingot(self, name: str, command: str, ready: re.Pattern[str]) -> SupervisedProgram:
        program = Program(
            name=name,
            arguments=(
                *(sys.executable, "-m", "ingot_server.cli", *command.split()),
                *("--metrics-file", str(self._metrics_directory / name.replace(" ", "-"))),
            ),
            environment=self._settings.environment(),
            ready=ready,
        )
        return self._start(program, self._ingot_processes)

    def _start(self, program: Program, children: list[SupervisedProgram]) -> SupervisedProgram:
        child = SupervisedProgram(
            program,
            inherited_fds=(self._lock,),
            log=sys.stderr,
            log_format=self._settings.log_format,
        )
        children.append(child)
        child.start()
        return child

    def _print_addresses(self) -> None:
        settings = self._settings
        scheme = "https" if settings.s3_secure else "http"
        tls = "https://" if settings.tls_certificate_file else ""
        links = f"links     {settings.s3_public_endpoint}\n" if self._s3_relay else ""
        sys.stdout.write(
            f"gRPC      {tls}{settings.grpc_address}\n"
            f"HTTP      {tls + settings.http_address if settings.http_address else 'off'}\n"
            f"page      {_page_address(settings.http_address, tls or 'http://')}\n"
            f"S3        {scheme}://{settings.s3_endpoint}/{settings.s3_bucket}\n{links}"
            f"Redis     {without_password(settings.redis_url)}\n"
            f"data      {settings.data_dir}\n"
        )
        sys.stdout.flush()


_REASONS: Final = {
    "redis": reason_pb2.REASON_CACHE_UNAVAILABLE,
    "s3": reason_pb2.REASON_STORAGE_UNAVAILABLE,
}


async def _wait_until_ready(child: SupervisedProgram) -> None:
    try:
        await child.wait_until_ready()
    except ProgramFailed as failed:
        reason: Reason.ValueType = _REASONS.get(child.program.name, reason_pb2.REASON_INTERNAL)
        raise Failure(reason, str(failed)) from failed


def _page_address(http_address: str, scheme: str) -> str:
    """Return the URL that opens the web page in a browser on this machine."""
    host, _, port = http_address.rpartition(":")
    if not host:
        return "off"
    return f"{scheme}{'localhost' if host in _EVERY_ADDRESS else host}:{port}/"
