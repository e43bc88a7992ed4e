from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from ingot_server.config import Secret, Settings
from tests.integration.telegram.desk import CLIP, Desk, desk_for
from tests.receiving import impatient_settings
from tests.telegram import TOKEN, BotApi, found, serving
from tests.waiting import PATIENCE_SECONDS


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    patience = timedelta(seconds=PATIENCE_SECONDS)
    return impatient_settings(tmp_path).replace(
        telegram_bot_token=Secret(TOKEN), connect_timeout=patience, stall_timeout=patience
    )


@pytest.fixture
def api() -> BotApi:
    return BotApi([found("videos/file_12.mp4", len(CLIP))], {"videos/file_12.mp4": CLIP})


@pytest.fixture
async def desk(settings: Settings, api: BotApi) -> AsyncIterator[Desk]:
    """With a Bot API server of one's own, at an address that callers' URLs never reach."""
    async with (
        serving(api) as address,
        desk_for(settings.replace(telegram_api_url=f"http://{address}/")) as desk,
    ):
        yield desk
