from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from ingot_server.config import Settings
from ingot_server.setting_values import Secret
from tests.integration.telegram.bot_files_harness import CLIP, BotFilesHarness, running_harness
from tests.scratch_and_proxy import quick_settings
from tests.telegram import TOKEN, FakeBotApi, found
from tests.waiting import TIMEOUT_SECONDS
from tests.web_server import web_server


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    timeout = timedelta(seconds=TIMEOUT_SECONDS)
    return quick_settings(tmp_path).replace(
        telegram_bot_token=Secret(TOKEN), connect_timeout=timeout, stall_timeout=timeout
    )


@pytest.fixture
def api() -> FakeBotApi:
    return FakeBotApi([found("videos/file_12.mp4", len(CLIP))], {"videos/file_12.mp4": CLIP})


@pytest.fixture
async def harness(settings: Settings, api: FakeBotApi) -> AsyncIterator[BotFilesHarness]:
    """With a Bot API server of one's own, at an address that callers' URLs never reach."""
    async with (
        web_server(api.handle, cancels=True) as address,
        running_harness(settings.replace(telegram_api_url=f"http://{address}/")) as harness,
    ):
        yield harness
