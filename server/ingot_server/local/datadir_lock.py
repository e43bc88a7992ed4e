"""The lock on the data directory, which prevents two runs of `up` from sharing one."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from ingot_server.private_directory import UnsafeDirectory, make_private_directory
from ingot_server.setting_values import SettingError

# After a SIGKILL of `up` the kernel needs a moment to end its children, which hold the lock too.
_LOCK_SECONDS: Final = 1.0


@contextlib.asynccontextmanager
async def lock_data_dir(data_dir: Path) -> AsyncIterator[int]:
    """Create `data_dir` and lock it; yield the lock's file descriptor.

    A child that inherits the descriptor holds the lock as well, so the directory stays locked until
    the last child has ended. Raises SettingError.
    """
    lock = _open(data_dir)
    try:
        await _acquire(lock, data_dir)
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        yield lock
    finally:
        os.close(lock)


def _open(data_dir: Path) -> int:
    try:
        make_private_directory(data_dir)
        return os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SettingError(
            f"INGOT_DATA_DIR: {data_dir} cannot be used: {error.strerror}."
        ) from error
    except UnsafeDirectory as error:
        raise SettingError(f"INGOT_DATA_DIR: {error}") from error


async def _acquire(lock: int, data_dir: Path) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _LOCK_SECONDS
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if loop.time() >= deadline:
                holder = os.pread(lock, 20, 0).decode().strip() or "unknown"
                raise SettingError(
                    f"INGOT_DATA_DIR: another `ingot-server up` (process {holder}) is running "
                    f"on {data_dir}. Stop it, or choose another directory with --data-dir."
                ) from error
        await asyncio.sleep(0.05)
