"""One job's extraction child: requests, results, and the ways in which the child can fail.

What follows from the ways in which that process can end:

- it tells a failure: a reason from `failures.py`;
- it dies, or outgrows its memory alone or with what it started: EXTRACTOR_CRASHED;
- it moves too few bytes for stall_timeout: STALLED; it takes too long in all: STAGE_TIMEOUT.
"""

from __future__ import annotations

import asyncio
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
from ingot_server.errors import Failure, too_large
from ingot_server.event_log import EventLogger
from ingot_server.extractor.failures import crashed, failure_of_report
from ingot_server.extractor.protocol import Report, Request
from ingot_server.extractor.result import (
    Entries,
    Fetched,
    FetchedSection,
    FetchedSideFile,
    ManifestLength,
    Resolved,
    listed,
    resolved,
)
from ingot_server.extractor.watchdog import MemoryWatchdog, RateWatchdog
from ingot_server.log_events import Event
from ingot_server.process.child import ChildError, ChildProcess, describe_exit

logger = EventLogger(__name__)


class Session:
    """One job's child: call `resolve`, then `fetch`. It cannot be used after a failure."""

    def __init__(
        self, child: ChildProcess, request: Request, settings: Settings, version: str
    ) -> None:
        self._child = child
        self._request = request
        self._settings = settings
        self._version = version
        self.cookies_rejected = False
        """Whether a site answered as if nobody were signed in with the cookies of the session."""
        self.has_po_tokens = False
        """Whether URLs of the media have PO tokens that Ingot made."""
        self._memory = MemoryWatchdog(child.pid, int(settings.extractor_memory))

    async def resolve(self) -> Resolved | Entries:
        """Find out what is behind the URL, without downloading media. Safe to cancel.

        Raises Failure.
        """
        limit = self._settings.extraction_timeout
        try:
            async with asyncio.timeout(limit.total_seconds()):
                await self._child.send_message(asdict(self._request))
                message = await self._next(self._memory)
        except TimeoutError as error:
            raise _stage_timeout("RESOLVING", limit, "INGOT_EXTRACTION_TIMEOUT") from error
        version = message["version"]
        if version != self._version:
            logger.warning(
                Event.EXTRACTOR_FELL_BACK,
                "extraction ran yt-dlp %s although %s is in use: %s",
                *(version, self._version, self._child.stderr[-500:]),
            )
        if message["kind"] == "entries":
            return listed(message)
        return resolved(message, version)

    async def fetch(self, directory: Path, progress: Callable[[int, int | None], None]) -> Fetched:
        """Download the media and its side files into `directory`, which is empty.

        Call `resolve` first. `progress` gets the bytes received of all formats together and the
        total, which is None if unknown. A side file that fails is left out. Raises Failure.
        """
        limit = self._settings.download_timeout + timedelta(seconds=self._request.record_seconds)
        is_recording = self._request.record_seconds > 0
        watchdog = RateWatchdog(directory, self._settings, is_recording=is_recording)
        try:
            async with asyncio.timeout(limit.total_seconds()):
                await self._child.send_message({"directory": os.fspath(directory), "media": True})
                while True:
                    message = await self._next(watchdog, self._memory)
                    if message["kind"] != "progress":
                        break
                    watchdog.done = message["done"]
                    progress(message["done"], message["total"])
                side_files = await self._side_files(directory, watchdog)
        except TimeoutError as error:
            raise _stage_timeout("DOWNLOADING", limit, "INGOT_DOWNLOAD_TIMEOUT") from error
        path = _inside(directory, message["path"])
        size = path.stat().st_size
        largest = int(self._settings.max_media_size)
        if size > largest:
            raise too_large(largest, size)
        progress(size, size)
        seconds = message["manifest_seconds"]
        announced = ManifestLength(seconds, *message["bounds_seconds"]) if seconds else None
        section = FetchedSection(*message["section"]) if message["section"] else None
        return Fetched(path, side_files, announced, section)

    async def fetch_side_files(self, directory: Path) -> tuple[FetchedSideFile, ...]:
        """Download only the requested side files into `directory`. Raises Failure."""
        limit = self._settings.download_timeout
        watchdog = RateWatchdog(directory, self._settings)
        try:
            async with asyncio.timeout(limit.total_seconds()):
                await self._child.send_message({"directory": os.fspath(directory), "media": False})
                return await self._side_files(directory, watchdog)
        except TimeoutError as error:
            raise _stage_timeout("DOWNLOADING", limit, "INGOT_DOWNLOAD_TIMEOUT") from error

    async def _side_files(
        self, directory: Path, watchdog: RateWatchdog
    ) -> tuple[FetchedSideFile, ...]:
        found: list[FetchedSideFile] = []
        try:
            while (message := await self._next(watchdog, self._memory))["kind"] != "done":
                if message["kind"] == "side_file":
                    found.append(_side_file(directory, message))
                elif message["kind"] == "missing":
                    logger.warning(
                        Event.SIDE_FILES_INCOMPLETE, "side files: %s", message["message"]
                    )
        except Failure as failure:
            # The media file is complete: a missing thumbnail must not lose it.
            logger.warning(
                Event.SIDE_FILES_INCOMPLETE,
                "side files: %s",
                failure.message,
                reason=failure.reason,
            )
        return tuple(found)

    async def _next(self, *watchdogs: RateWatchdog | MemoryWatchdog) -> dict[str, Any]:
        reading = asyncio.create_task(self._receive())
        try:
            while not reading.done():
                await asyncio.wait([reading], timeout=min(each.interval for each in watchdogs))
                for watchdog in watchdogs:
                    watchdog.check()
            return await reading
        except Failure as failure:
            if failure.reason != reason_pb2.REASON_TOO_LARGE:
                raise
            # The child does not know the words for its own limit.
            raise too_large(int(self._settings.max_media_size)) from failure
        finally:
            await cancel_and_wait(reading)

    async def _receive(self) -> dict[str, Any]:
        while True:
            message = await _receive(self._child)
            match message["kind"]:
                case "cookies_rejected":
                    self.cookies_rejected = True
                case "po_tokens":
                    self._note_po_tokens(message)
                case _:
                    return message

    def _note_po_tokens(self, message: dict[str, Any]) -> None:
        self.has_po_tokens = bool(message["minted"])
        if message["failure"]:
            logger.warning(
                Event.PO_TOKENS_FAILED, "PO tokens could not be made: %s", message["failure"]
            )


async def running_version(child: ChildProcess, settings: Settings) -> str:
    """Return the yt-dlp version of a child that has had no request and gets no other one.

    Raises Failure.
    """
    limit = settings.extraction_timeout
    try:
        async with asyncio.timeout(limit.total_seconds()):
            await child.send_message({})
            return str((await _receive(child))["version"])
    except TimeoutError as error:
        raise _stage_timeout("RESOLVING", limit, "INGOT_EXTRACTION_TIMEOUT") from error


async def _receive(child: ChildProcess) -> dict[str, Any]:
    try:
        message = await child.receive_message()
    except ChildError as error:
        raise crashed(str(error)) from error
    if message is None:
        code = await child.wait()
        logger.warning(
            Event.EXTRACTION_KILLED, "extraction %s: %s", describe_exit(code), child.stderr[-2000:]
        )
        raise crashed(
            "it needed more memory than INGOT_EXTRACTOR_MEMORY allows"
            if code == 70
            else f"it was {describe_exit(code)}"
        )
    if message["kind"] == "failed":
        fields = {key: value for key, value in message.items() if key != "kind"}
        failure = failure_of_report(Report(**{**fields, "kinds": tuple(fields["kinds"])}))
        logger.info(
            Event.EXTRACTION_FAILED, "extraction failed: %r: %s", failure, message["message"]
        )
        raise failure
    return message


def _side_file(directory: Path, message: dict[str, Any]) -> FetchedSideFile:
    return FetchedSideFile(
        path=_inside(directory, message["path"]),
        kind=SideFile.Kind.Value(f"KIND_{message['what']}"),
        language=message["language"],
        automatic=message["automatic"],
        content_type=message["content_type"],
        converted=message["converted"],
    )


def _inside(directory: Path, message: str) -> Path:
    """Return the path that the child named, if it is a regular file in `directory`."""
    path = directory / Path(message).name
    if path.is_symlink() or not path.is_file():
        raise crashed("it named a file that does not exist")
    return path


def _stage_timeout(stage: str, limit: timedelta, setting: str) -> Failure:
    return Failure(
        reason_pb2.REASON_STAGE_TIMEOUT,
        f"The stage took longer than {limit.total_seconds():g} s. {setting} sets that limit.",
        metadata={"stage": stage},
    )
