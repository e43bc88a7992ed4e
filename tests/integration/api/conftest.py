from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from ingot_server.config import Settings
from tests.integration.api.running_api import Api, serving


@pytest.fixture
async def api(settings: Settings) -> AsyncIterator[Api]:
    async with serving(settings) as running:
        yield running
