"""The messages of a download, which are written without the library."""

from __future__ import annotations

import pytest

from ingot.v1.media_service_pb2 import DownloadResponse
from ingot_server.api.media_service import next_bytes


@pytest.mark.parametrize("offset", [0, 1, 1 << 40])
@pytest.mark.parametrize("size", [1, 127, 128, 16_383, 16_384, 256 << 10])
def test_they_are_what_the_library_writes(offset: int, size: int) -> None:
    data = bytes(size)
    expected = DownloadResponse(offset=offset, data=data).SerializeToString()
    assert next_bytes(offset, data) == expected
