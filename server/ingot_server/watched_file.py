"""Files that are read again when they change, without a restart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final, TypeAlias

_LOOK_SECONDS: Final = 1.0

FileVersion: TypeAlias = tuple[int, int, int] | None
"""What differs between two versions of a file. None: there is no file, or it cannot be reached."""


def file_version(path: Path) -> FileVersion:
    """Return the version of the file at `path`, through links."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


async def changes(path: Path, since: FileVersion) -> AsyncIterator[FileVersion]:
    """Yield each new version of the file, within about a second. Never ends.

    It is looked at by polling, because a mounted Secret of Kubernetes changes by a link somewhere
    above the file, and files on a network do not report changes. Take `since` before the file is
    read, so that no change is missed.
    """
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        version = await asyncio.to_thread(file_version, path)
        if version != since:
            since = version
            yield version
