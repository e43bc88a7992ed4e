from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from ingot_server.config import ByteSize, Settings
from tests.integration.uploads.house import House, house_of


@pytest.fixture
async def house(settings: Settings) -> AsyncIterator[House]:
    async with house_of(
        settings.replace(max_media_size=ByteSize(64 << 20), http_address="")
    ) as house:
        yield house
