import signal

import pytest

from tests.media import media

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
