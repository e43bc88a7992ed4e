import base64
from collections.abc import AsyncIterator, Iterator

import pytest

from ingot import Client
from tests.installation import Installation, installation


@pytest.fixture(scope="session")
def ingot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """One Ingot for all tests that leave it whole.

    What they keep busy is slow, and neither stalled nor lost.
    """
    settings = {
        "max_media_size": "64MiB",
        "stall_timeout": "2m",
        "lease": "1m",
        "webhook_secrets": "whsec_" + base64.b64encode(b"w" * 32).decode(),
    }
    with installation(tmp_path_factory.mktemp("ingot"), **settings) as running:
        yield running


@pytest.fixture
async def client(ingot: Installation) -> AsyncIterator[Client]:
    async with Client(ingot.grpc_address) as connected:
        yield connected
