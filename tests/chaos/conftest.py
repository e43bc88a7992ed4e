from collections.abc import AsyncIterator

import pytest

from tests.origin import Origin, running_origin


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with running_origin() as running:
        yield running
