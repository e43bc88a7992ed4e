"""An upload that can never become a media item leaves no bytes in the bucket."""

from __future__ import annotations

import pytest

from ingot_server.library.uploads import PART_BYTES
from tests.integration.uploads.upload_servers import UploadServers, clip

pytestmark = pytest.mark.any_stores


async def test_an_empty_upload_leaves_nothing(servers: UploadServers) -> None:
    refusal = await servers.refused(b"", upload_id="empty")

    assert refusal.reason == "NOT_MEDIA"
    assert await servers.left() == []


async def test_an_upload_of_more_than_was_announced_leaves_nothing(servers: UploadServers) -> None:
    content = clip(PART_BYTES + (1 << 20))

    refusal = await servers.refused(content, upload_id="more", size_bytes=len(content) - 1)

    assert refusal.reason == "CHECKSUM_MISMATCH"
    assert await servers.left() == []
