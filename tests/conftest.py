import pytest

from tests.media import media


@pytest.fixture(scope="session")
def clip() -> bytes:
    """An MP4 of two seconds, H.264 and AAC."""
    return media("plain.mp4").read_bytes()


@pytest.fixture(scope="session")
def other_clip() -> bytes:
    """Another MP4 of two seconds."""
    return media("faststart.mp4").read_bytes()
