"""INGOT_HEARTBEAT_FILE: a sign of life of a process, for probes that restart it if it hangs.

The event loop touches the file, from before the process has reached Redis and S3 until it ends. So
the file says that the loop turns, and nothing of the stores: a restart brings none of them back,
and would cost the jobs that run. The content of the file is the gRPC address of the process, or
nothing if it has none.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from ingot_server.asyncio_tasks import cancel_and_wait
from ingot_server.config import Settings
from ingot_server.setting_values import SettingError

_STALE_SECONDS: Final = 30.0
_INTERVAL_SECONDS: Final = 5.0


class Unhealthy(Exception):
    """What is not well, for the operator."""


@contextlib.asynccontextmanager
async def beating(settings: Settings, grpc_address: str = "") -> AsyncIterator[None]:
    """Keep the heartbeat file fresh while the context is open; do nothing if there is none.

    Raises SettingError if it cannot be written.
    """
    if not settings.heartbeat_file:
        yield
        return
    file = Path(settings.heartbeat_file)
    try:
        _write(file, grpc_address)
    except OSError as error:
        raise SettingError(
            f"INGOT_HEARTBEAT_FILE: {file} cannot be written: {error.strerror}."
        ) from error
    task = asyncio.create_task(_keep_beating(file, grpc_address))
    try:
        yield
    finally:
        await cancel_and_wait(task)


def require_heartbeat(file: Path) -> str:
    """Check that a process lives; return its gRPC address, which is empty if it has none.

    Raises Unhealthy if its last heartbeat is older than half a minute, or if there is none.
    """
    try:
        grpc_address = file.read_text()
        age_seconds = time.time() - file.stat().st_mtime
    except OSError as error:
        raise Unhealthy(f"There is no heartbeat in {file}: {error.strerror}.") from error
    if age_seconds > _STALE_SECONDS:
        raise Unhealthy(
            f"The last heartbeat in {file} is {age_seconds:.0f} s old: the process has ended, or "
            "hangs."
        )
    return grpc_address


async def _keep_beating(file: Path, grpc_address: str) -> None:
    # Not in a thread: it has to show that this loop turns.
    while True:
        await asyncio.sleep(_INTERVAL_SECONDS)
        with contextlib.suppress(OSError):  # of a disk that is full for a moment
            _touch(file, grpc_address)


def _write(file: Path, grpc_address: str) -> None:
    # In one step, because a probe may read it meanwhile.
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    draft.write_text(grpc_address)
    draft.replace(file)


def _touch(file: Path, grpc_address: str) -> None:
    try:
        os.utime(file)
    except FileNotFoundError:
        _write(file, grpc_address)
