import signal
import socket
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.media import media
from tests.origin import Origin, running_origin

# Whoever runs the tests in the background may ignore Ctrl-C, and programs started here would too.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def clip() -> bytes:
    """An MP4 of two seconds, H.264 and AAC."""
    return media("plain.mp4").read_bytes()


@pytest.fixture(scope="session")
def other_clip() -> bytes:
    """Another MP4 of two seconds."""
    return media("faststart.mp4").read_bytes()


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port of 127.0.0.1 where nobody listens, and that nobody else is given meanwhile."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with running_origin() as running:
        yield running
