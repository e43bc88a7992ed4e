"""Cuts a section out of a whole file, in a process of its own (`cut_main.py`)."""

from __future__ import annotations

import asyncio
import math
import os
import signal
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Protocol

from ingot.v1 import reason_pb2
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.probe.prober import MEMORY_BYTES
from ingot_server.process.child import ChildError, describe_exit
from ingot_server.process.fork_server import ForkServer
from ingot_server.process.limits import Limits
from ingot_server.section.remote_file import NotIndexed
from ingot_server.section.requested import Section, StoredSection

_PROGRAM: Final = str(Path(__file__).with_name("cut_main.py"))
_REASONS: Final = {
    "OutsideMedia": reason_pb2.REASON_SELECTION_UNAVAILABLE,
    "NoKeyFrame": reason_pb2.REASON_NOT_MEDIA,
    "Uncuttable": reason_pb2.REASON_NOT_MEDIA,
    "NoExactCut": reason_pb2.REASON_SELECTION_UNAVAILABLE,
    "OSError": reason_pb2.REASON_SCRATCH_FULL,
}


@dataclass(frozen=True, slots=True)
class CutFile:
    """A file that was cut, and which section it is."""

    path: Path
    section: StoredSection


class Remote(Protocol):
    """A file at its source, of which ranges can be had."""

    @property
    def size_bytes(self) -> int:
        """The size of the whole file."""

    @property
    def received(self) -> int:
        """How many of its first bytes are on the disk."""

    async def fetch(self, begin: int, end: int) -> None:
        """Append a range to the file on the disk. Raises Failure."""


class Cutter:
    """Cuts files. Keeps nothing from one to the next."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._processes = ForkServer(
            _PROGRAM,
            limits=Limits(
                memory_bytes=MEMORY_BYTES,
                cpu=settings.probe_timeout + timedelta(seconds=1),
                file_bytes=2 * int(settings.max_media_size),
            ),
        )

    async def cut(
        self,
        path: Path,
        directory: Path,
        section: Section,
        remote: Remote | None = None,
    ) -> CutFile:
        """Write the section of the file at `path` into `directory`. Safe to repeat and to cancel.

        With `remote`, the file has only the first bytes, and gets the ranges that are needed.
        Raises NotIndexed if it has no index that says which.

        Raises Failure SELECTION_UNAVAILABLE if the media ends before the section begins; NOT_MEDIA,
        STAGE_TIMEOUT or SCRATCH_FULL.
        """
        limit = self._settings.probe_timeout
        if remote is not None:
            limit += self._settings.download_timeout
        try:
            async with asyncio.timeout(limit.total_seconds()):
                response = await self._request_cut(
                    path=os.fspath(path),
                    directory=os.fspath(directory),
                    start=section.start,
                    end=None if math.isinf(section.end) else section.end,
                    exact=section.exact,
                    remote=remote and {"size": remote.size_bytes, "received": remote.received},
                    remote_file=remote,
                )
        except TimeoutError as error:
            raise _timed_out(limit) from error
        if response.get("error") == "NotIndexed":
            raise NotIndexed(response["message"])
        if "error" in response:
            raise Failure(_REASONS[response["error"]], f"{response['message']}.")
        made = StoredSection(section, response["start"], response["whole"])
        return CutFile(directory / Path(response["path"]).name, made)

    async def _request_cut(self, remote_file: Remote | None, **request: object) -> dict[str, Any]:
        async with await self._processes.start_child() as child:
            await child.send_message(request)
            try:
                response = await child.receive_message()
                while response is not None and "need" in response and remote_file is not None:
                    await remote_file.fetch(*response["need"])
                    await child.send_message({})
                    response = await child.receive_message()
            except ChildError as error:
                raise _unreadable(str(error)) from error
            if response is not None:
                return response
            code = await child.wait()
            if code == -signal.SIGXCPU:
                raise _timed_out(self._settings.probe_timeout)
            raise _unreadable(f"the process that read it was {describe_exit(code)}")


def _timed_out(limit: timedelta) -> Failure:
    return Failure(
        reason_pb2.REASON_STAGE_TIMEOUT,
        f"To cut the section took longer than {limit.total_seconds():g} s. INGOT_PROBE_TIMEOUT "
        "sets that limit, and INGOT_DOWNLOAD_TIMEOUT adds to it while ranges are fetched.",
        metadata={"stage": "PROBING"},
    )


def _unreadable(what: str) -> Failure:
    return Failure(reason_pb2.REASON_NOT_MEDIA, f"No section can be cut out of the file: {what}.")
