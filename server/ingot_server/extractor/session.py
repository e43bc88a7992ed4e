"""One job's talk with its extraction child: what is asked, and what the answers mean.

What follows from the ways in which that process can end:

- it tells a failure: a reason from `failures.py`;
- it dies, or outgrows its memory alone or with what it started: EXTRACTOR_CRASHED;
- it moves too few bytes for stall_timeout: STALLED; it takes too long in all: STAGE_TIMEOUT.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

from ingot.v1 import reason_pb2
from ingot.v1.media_pb2 import SideFile
from ingot_server.asyncio_tasks import cancel_and_wait
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.extractor.failures import Report, crashed, failure_of_report
from ingot_server.extractor.protocol import (
    Entries,
    Fetched,
    FetchedSideFile,
    Resolved,
    resolved,
)
from ingot_server.extractor.request import Request
from ingot_server.extractor.watchdog import MemoryWatch, StallWatch
from ingot_server.process.child import ChildError, ChildProcess, describe_exit

logger = logging.getLogger(__name__)


class Session:
    """One job's process: `resolve`, then `fetch`. Not to be used again after a failure."""

    def __init__(
        self, child: ChildProcess, request: Request, settings: Settings, version: str
    ) -> None:
        self._child = child
        self._request = request
        self._settings = settings
        self._version = version
        self._memory = MemoryWatch(child.pid, int(settings.extractor_memory))

    async def resolve(self) -> Resolved | Entries:
        """What is behind the URL, without a byte of media. Safe to cancel. Raises Failure."""
        limit = self._settings.extraction_timeout
        try:
            async with asyncio.timeout(limit.total_seconds()):
                await self._child.send_message(asdict(self._request))
                answer = await self._next(self._memory)
        except TimeoutError as error:
            raise _overdue("RESOLVING", limit, "INGOT_EXTRACTION_TIMEOUT") from error
        version = answer["version"]
        if version != self._version:
            logger.warning(
                "extraction ran yt-dlp %s where %s is in use: %s",
                *(version, self._version, self._child.stderr[-500:]),
            )
        if answer["kind"] == "entries":
            return Entries(
                title=answer["title"],
                extractor=answer["extractor"],
                extractor_id=answer["extractor_id"],
                urls=tuple(answer["urls"]),
                total=answer["total"],
            )
        return resolved(answer, version)

    async def fetch(self, directory: Path, progress: Callable[[int, int | None], None]) -> Fetched:
        """Receives all of it into `directory`, an empty one; `resolve` comes first.

        `progress` gets the bytes received of all formats together, and of how many when known. A
        side file that cannot be had is left out.
        """
        limit = self._settings.download_timeout + timedelta(seconds=self._request.record_seconds)
        watch = StallWatch(directory, self._settings)
        try:
            async with asyncio.timeout(limit.total_seconds()):
                await self._child.send_message({"directory": os.fspath(directory), "media": True})
                while True:
                    answer = await self._next(watch, self._memory)
                    if answer["kind"] != "progress":
                        break
                    watch.done = answer["done"]
                    progress(answer["done"], answer["total"])
                side_files = await self._side_files(directory, watch)
        except TimeoutError as error:
            raise _overdue("DOWNLOADING", limit, "INGOT_DOWNLOAD_TIMEOUT") from error
        path = _inside(directory, answer["path"])
        size = path.stat().st_size
        if size > self._settings.max_media_size:
            raise Failure(
                reason_pb2.REASON_TOO_LARGE,
                f"The media is {size} bytes long; INGOT_MAX_MEDIA_SIZE allows fewer.",
                metadata={"limit_bytes": str(int(self._settings.max_media_size))},
            )
        progress(size, size)
        return Fetched(path, side_files)

    async def fetch_side_files(self, directory: Path) -> tuple[FetchedSideFile, ...]:
        """Receives what was asked for besides into `directory`, and nothing of the media."""
        limit = self._settings.download_timeout
        watch = StallWatch(directory, self._settings)
        try:
            async with asyncio.timeout(limit.total_seconds()):
                await self._child.send_message({"directory": os.fspath(directory), "media": False})
                return await self._side_files(directory, watch)
        except TimeoutError as error:
            raise _overdue("DOWNLOADING", limit, "INGOT_DOWNLOAD_TIMEOUT") from error

    async def _side_files(self, directory: Path, watch: StallWatch) -> tuple[FetchedSideFile, ...]:
        found: list[FetchedSideFile] = []
        try:
            while (answer := await self._next(watch, self._memory))["kind"] != "done":
                if answer["kind"] == "side_file":
                    found.append(_side_file(directory, answer))
        except Failure as failure:
            # The media is here and whole: it is not lost for the sake of a picture.
            logger.warning("side files: %s", failure.message)
        return tuple(found)

    async def _next(self, *watches: StallWatch | MemoryWatch) -> dict[str, Any]:
        reading = asyncio.create_task(_receive(self._child))
        try:
            while not reading.done():
                await asyncio.wait([reading], timeout=min(each.interval for each in watches))
                for watch in watches:
                    watch.look()
            return await reading
        finally:
            await cancel_and_wait(reading)


async def running_version(child: ChildProcess, settings: Settings) -> str:
    """Which yt-dlp a child runs that has not been asked anything, nor will be. Raises Failure."""
    limit = settings.extraction_timeout
    try:
        async with asyncio.timeout(limit.total_seconds()):
            await child.send_message({})
            return str((await _receive(child))["version"])
    except TimeoutError as error:
        raise _overdue("RESOLVING", limit, "INGOT_EXTRACTION_TIMEOUT") from error


async def _receive(child: ChildProcess) -> dict[str, Any]:
    try:
        answer = await child.receive_message()
    except ChildError as error:
        raise crashed(str(error)) from error
    if answer is None:
        code = await child.wait()
        logger.warning("extraction %s: %s", describe_exit(code), child.stderr[-2000:])
        raise crashed(
            "it outgrew INGOT_EXTRACTOR_MEMORY" if code == 70 else f"it was {describe_exit(code)}"
        )
    if answer["kind"] == "failed":
        told = {key: value for key, value in answer.items() if key != "kind"}
        failure = failure_of_report(Report(**{**told, "kinds": tuple(told["kinds"])}))
        logger.info("extraction failed: %r: %s", failure, answer["message"])
        raise failure
    return answer


def _side_file(directory: Path, answer: dict[str, Any]) -> FetchedSideFile:
    return FetchedSideFile(
        path=_inside(directory, answer["path"]),
        kind=SideFile.Kind.Value(f"KIND_{answer['what']}"),
        language=answer["language"],
        automatic=answer["automatic"],
        content_type=answer["content_type"],
    )


def _inside(directory: Path, answer: str) -> Path:
    """The path the child names: a real file in `directory`, whatever it says."""
    path = directory / Path(answer).name
    if path.is_symlink() or not path.is_file():
        raise crashed("it named a file that is not there")
    return path


def _overdue(stage: str, limit: timedelta, setting: str) -> Failure:
    return Failure(
        reason_pb2.REASON_STAGE_TIMEOUT,
        f"This took longer than the limit of {limit.total_seconds():g} s. {setting} sets it.",
        metadata={"stage": stage},
    )
