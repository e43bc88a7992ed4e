"""Embedded mode: everything on one machine, from one command.

`up` starts valkey-server and SeaweedFS, unless settings point to others, then children of this
same program: an API server and workers. All of them are real processes, and they differ from a
production's only in where the settings they get lead to.

    <data_dir>/
        lock            locked by `up` and by its children: the directory is free when all ended
        redis/ s3/ ...  see stores.py
        extractors/     see extractors.py
        scratch/        unless a setting says otherwise

Scratch lies on the disk of the stores so that `scratch_reserve`, which workers watch while they
download, keeps space free for both: SeaweedFS cannot even start on a full disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import sys
from collections.abc import Collection
from datetime import timedelta
from typing import Final

from ingot.v1 import reason_pb2
from ingot.v1.reason_pb2 import Reason
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.local.datadir_lock import locked
from ingot_server.local.local_servers import SeaweedFS, redis_server, valkey_executable
from ingot_server.local.ports import Ports, socket_path
from ingot_server.process.supervisor import Program, ProgramFailed, SupervisedProgram

# One Ctrl-C stops all within five seconds: the server and the workers first, then the stores.
_DRAIN: Final = timedelta(seconds=3)
_STOP_SECONDS: Final = 4.0
_STORE_STOP_SECONDS: Final = 0.7
_VACUUM_SECONDS: Final = 5.0


async def up(settings: Settings, given: Collection[str] = ()) -> None:
    """Runs Ingot until SIGINT, SIGTERM or SIGHUP; a second one kills instead of asking.

    `given` names the settings that somebody set: a store whose address is among them, or is not
    the default, is used and not started.

    Raises SettingError when a port or the data directory is taken or cannot be used, and Failure
    when a part does not start.
    """
    data_dir = settings.data_dir.absolute()
    async with contextlib.AsyncExitStack() as place:
        ports = place.enter_context(Ports())
        settings = settings.replace(
            data_dir=data_dir,
            grpc_address=ports.address("INGOT_GRPC_ADDRESS", settings.grpc_address),
            http_address=settings.http_address
            and ports.address("INGOT_HTTP_ADDRESS", settings.http_address),
            shutdown_timeout=min(settings.shutdown_timeout, _DRAIN),
        )
        lock = await place.enter_async_context(locked(data_dir))
        installation = Installation(settings, given, lock, ports)
        running = asyncio.create_task(installation.run())

        def stop() -> None:
            if not running.cancelling():
                running.cancel()
            else:
                installation.kill()

        loop = asyncio.get_running_loop()
        signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
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
    """The children of one `up`."""

    def __init__(self, settings: Settings, given: Collection[str], lock: int, ports: Ports) -> None:
        self._settings = settings
        self._given = given
        self._lock = lock
        self._ports = ports
        self._stores: list[SupervisedProgram] = []
        self._parts: list[SupervisedProgram] = []
        self._seaweedfs: SeaweedFS | None = None

    async def run(self) -> None:
        """Starts everything, says where it is, and takes care of it until cancelled."""
        if not self._is_given("scratch_dir"):
            self._settings = self._settings.replace(scratch_dir=self._settings.data_dir / "scratch")
        if not self._is_given("redis_url"):
            await self._start_redis()
        stored = None if self._is_given("s3_endpoint") else self._start_s3()
        # The server and SeaweedFS start side by side: it waits for its bucket.
        serving = self._start_part("serve", "serve", re.compile("serving gRPC on"))
        await asyncio.gather(*(_ready(child) for child in (stored, serving) if child is not None))
        # Workers would take the processor from what makes us ready; jobs wait for them.
        for number in range(self._settings.workers):
            await _ready(self._start_part(f"worker {number + 1}", "worker", None))
        for number in range(self._settings.convert_workers):
            await _ready(self._start_part(f"convert {number + 1}", "worker --convert", None))
        self._announce()
        while self._seaweedfs is not None:
            await asyncio.sleep(_VACUUM_SECONDS)
            await self._seaweedfs.vacuum()
        await asyncio.Event().wait()

    async def stop(self) -> None:
        """Stops the server and the workers, and then the stores that they need till the end."""
        for children, patience in (
            (self._parts, _STOP_SECONDS),
            (self._stores, _STORE_STOP_SECONDS),
        ):
            await asyncio.gather(*(child.stop(patience) for child in children))
        if self._seaweedfs is not None:
            self._seaweedfs.remove_sockets()

    def kill(self) -> None:
        """Kills every child at once, for those who cannot wait. `stop` then returns at once."""
        for child in (*self._parts, *self._stores):
            child.kill()

    def _is_given(self, name: str) -> bool:
        return name in self._given or getattr(self._settings, name) != getattr(Settings(), name)

    async def _start_redis(self) -> None:
        directory = self._settings.data_dir / "redis"
        directory.mkdir(mode=0o700, exist_ok=True)
        path = socket_path(directory, "redis.sock")
        child = self._start(redis_server(valkey_executable(), directory, path), self._stores)
        await _ready(child)
        self._settings = self._settings.replace(redis_url=f"unix://{path}")

    def _start_s3(self) -> SupervisedProgram:
        self._seaweedfs = seaweedfs = SeaweedFS.open(self._settings.data_dir, self._ports)
        self._settings = self._settings.replace(
            s3_endpoint=seaweedfs.endpoint,
            s3_access_key=seaweedfs.access_key,
            s3_secret_key=seaweedfs.secret_key,
            s3_secure=False,
        )
        return self._start(seaweedfs.program(), self._stores)

    def _start_part(
        self, name: str, command: str, ready: re.Pattern[str] | None
    ) -> SupervisedProgram:
        program = Program(
            name=name,
            arguments=(sys.executable, "-m", "ingot_server.cli", *command.split()),
            environment=self._settings.environment(),
            ready=ready,
        )
        return self._start(program, self._parts)

    def _start(self, program: Program, children: list[SupervisedProgram]) -> SupervisedProgram:
        child = SupervisedProgram(program, inherited_fds=(self._lock,), log=sys.stderr)
        children.append(child)
        child.start()
        return child

    def _announce(self) -> None:
        settings = self._settings
        scheme = "https" if settings.s3_secure else "http"
        sys.stdout.write(
            f"gRPC      {settings.grpc_address}\n"
            f"HTTP      {settings.http_address or 'off'}\n"
            f"S3        {scheme}://{settings.s3_endpoint}/{settings.s3_bucket}\n"
            f"Redis     {_without_password(settings.redis_url)}\n"
            f"data      {settings.data_dir}\n"
        )
        sys.stdout.flush()


_REASONS: Final = {
    "redis": reason_pb2.REASON_CACHE_UNAVAILABLE,
    "s3": reason_pb2.REASON_STORAGE_UNAVAILABLE,
}


async def _ready(child: SupervisedProgram) -> None:
    try:
        await child.wait_until_ready()
    except ProgramFailed as failed:
        reason: Reason.ValueType = _REASONS.get(child.program.name, reason_pb2.REASON_INTERNAL)
        raise Failure(reason, str(failed)) from failed


def _without_password(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//***@", url)
