from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from ingot_server.config import Settings
from tests.integration.download.download_harness import DownloadHarness
from tests.scratch_and_proxy import quick_settings, scratch_and_proxy
from tests.waiting import TIMEOUT_SECONDS


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    timeout = timedelta(seconds=TIMEOUT_SECONDS)
    return quick_settings(tmp_path).replace(
        egress_allow_loopback=True,
        max_redirects=4,
        connect_timeout=timeout,
        stall_timeout=timeout,
    )


@pytest.fixture
async def harness(settings: Settings) -> AsyncIterator[DownloadHarness]:
    async with scratch_and_proxy(settings) as (scratch, proxy):
        yield DownloadHarness(settings, scratch, proxy)
