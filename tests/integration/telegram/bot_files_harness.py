"""What receiving from Telegram takes, and all that a person could see of it."""

from __future__ import annotations

import random
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from ingot_server.config import Settings
from ingot_server.egress.proxy import EgressProxy
from ingot_server.errors import Failure
from ingot_server.sources import pick
from ingot_server.telegram.bot_files import TelegramFile, receive, trusted_server
from ingot_server.transfer.scratch import Scratch
from tests.scratch_and_proxy import scratch_and_proxy
from tests.telegram import FILE_ID

CLIP = random.Random(11).randbytes(700_001)
FILE_URL = f"telegram://video/{FILE_ID}"


@dataclass
class BotFilesHarness:
    """All that receiving takes, and everything a person could see of it."""

    settings: Settings
    scratch: Scratch
    egress: EgressProxy
    seen: list[tuple[int, int | None]] = field(default_factory=list)

    async def take(self, url: str = FILE_URL) -> tuple[TelegramFile, bytes]:
        async with self.scratch.open("job", 1) as file:
            grant = self.egress.grant("job", trusted=trusted_server(self.settings))
            try:
                received = await receive(
                    pick(url)[1],
                    file,
                    proxy_url=grant.proxy_url,
                    settings=self.settings,
                    progress=lambda done, total: self.seen.append((done, total)),
                )
            finally:
                grant.revoke()
            return received, file.path.read_bytes()

    async def failure(self, url: str = FILE_URL) -> Failure:
        with pytest.raises(Failure) as caught:
            await self.take(url)
        return caught.value


@asynccontextmanager
async def running_harness(settings: Settings) -> AsyncIterator[BotFilesHarness]:
    async with scratch_and_proxy(settings) as (scratch, egress):
        yield BotFilesHarness(settings, scratch, egress)


def shown(failure: Failure) -> str:
    """Everything that is told of a failure: to callers, in the job, and in logs."""
    chain: list[BaseException] = []
    following: BaseException | None = failure
    while following is not None and following not in chain:
        chain.append(following)
        following = following.__cause__ or following.__context__
    return "\n".join(
        [
            *(f"{item!r} {item} {vars(item)}" for item in chain),
            str(failure.status()),
            *traceback.format_exception(failure),
        ]
    )
