from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ingot_server.config import Settings
from tests.integration.download.desk import Desk
from tests.receiving import impatient_settings, scratch_and_guard


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return impatient_settings(tmp_path).replace(egress_allow_loopback=True, max_redirects=4)


@pytest.fixture
async def desk(settings: Settings) -> AsyncIterator[Desk]:
    async with scratch_and_guard(settings) as (scratch, proxy):
        yield Desk(settings, scratch, proxy)
