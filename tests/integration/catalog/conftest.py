from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from ingot_server.config import Settings
from ingot_server.library.blobs import Blobs
from ingot_server.library.catalog import Catalog
from tests.integration.catalog.running_catalog import opened


@pytest.fixture
async def catalog(blobs: Blobs, settings: Settings) -> AsyncIterator[Catalog]:
    async with opened(blobs, settings) as catalog:
        yield catalog


@pytest.fixture
async def other(blobs: Blobs, settings: Settings) -> AsyncIterator[Catalog]:
    """The catalog of another process."""
    async with opened(blobs, settings) as catalog:
        yield catalog
