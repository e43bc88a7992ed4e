from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from ingot_server.config import Settings
from ingot_server.setting_values import ByteSize
from tests.integration.uploads.upload_servers import UploadServers, running_servers


@pytest.fixture
async def servers(settings: Settings) -> AsyncIterator[UploadServers]:
    async with running_servers(
        settings.replace(max_media_size=ByteSize(64 << 20), http_address="")
    ) as servers:
        yield servers
