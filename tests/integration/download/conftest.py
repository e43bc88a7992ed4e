from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from ingot_server.config import Settings
from tests.integration.download.desk import Desk
from tests.receiving import impatient_settings, scratch_and_guard
from tests.waiting import PATIENCE_SECONDS


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    patience = timedelta(seconds=PATIENCE_SECONDS)
    return impatient_settings(tmp_path).replace(
        egress_allow_loopback=True,
        max_redirects=4,
        connect_timeout=patience,
        stall_timeout=patience,
    )


@pytest.fixture
async def desk(settings: Settings) -> AsyncIterator[Desk]:
    async with scratch_and_guard(settings) as (scratch, proxy):
        yield Desk(settings, scratch, proxy)
