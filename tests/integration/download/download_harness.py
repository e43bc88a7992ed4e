"""Downloads into scratch through the guard, from a web server that behaves well or badly."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from ingot_server.config import Settings
from ingot_server.egress.proxy import EgressProxy
from ingot_server.errors import Failure
from ingot_server.library.manifest_pb2 import SourceVersion
from ingot_server.transfer.download import Downloaded, download
from ingot_server.transfer.growing_file import Abandoned
from ingot_server.transfer.scratch import Scratch, ScratchFile
from tests.scratch_and_proxy import SECOND

CLIP = random.Random(7).randbytes(700_001)


@dataclass
class DownloadHarness:
    """All that a download takes, and the seen progress of the last one."""

    settings: Settings
    scratch: Scratch
    proxy: EgressProxy
    seen: list[tuple[int, int | None]] = field(default_factory=list)
    moving: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def file(self) -> AsyncIterator[ScratchFile]:
        async with self.scratch.open("job", 1) as file:
            yield file

    def hurry(self) -> None:
        """From now on a source has stalled that sends too little for a second."""
        self.settings = self.settings.replace(stall_timeout=SECOND)

    async def into(
        self, file: ScratchFile, url: str, stored: SourceVersion | None = None
    ) -> Downloaded | None:
        self.seen.clear()
        egress = self.proxy.grant("job")
        try:
            return await download(
                url,
                file,
                proxy_url=egress.proxy_url,
                settings=self.settings,
                stored=stored,
                progress=self._progress,
            )
        finally:
            egress.revoke()

    def _progress(self, done: int, total: int | None) -> None:
        self.seen.append((done, total))
        self.moving.set()

    async def take(self, url: str, content: bytes = CLIP) -> Downloaded:
        async with self.file() as file:
            downloaded = await self.into(file, url)
            assert downloaded is not None
            assert file.path.read_bytes() == content
            assert file.size == downloaded.size_bytes == len(content)
            assert downloaded.sha256 == hashlib.sha256(content).hexdigest()
            return downloaded

    async def failure(self, url: str) -> Failure:
        async with self.file() as file:
            with pytest.raises(Failure) as caught:
                await self.into(file, url)
            with file.tail() as tail_reader, pytest.raises((Failure, Abandoned)):
                tail_reader.read()
            return caught.value
