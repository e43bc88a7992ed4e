"""A stored file that was cut short in the bucket is never handed out as if it were whole."""

from __future__ import annotations

import pytest

from ingot.v1.media_service_pb2 import DownloadRequest
from tests.integration.api.running_api import CONTENT, Api
from tests.refusals import refused

pytestmark = pytest.mark.any_stores


@pytest.mark.parametrize("offset", [0, 1000], ids=["whole", "resumed"])
async def test_a_download_that_the_bucket_ends_early_fails(api: Api, offset: int) -> None:
    media = await api.store()
    key = api.blobs.key(media.blob.url)
    await api.blobs.put(key, CONTENT[:-1], content_type="video/mp4")

    found = await refused(api.media.Download(DownloadRequest(media_id=media.id, offset=offset)))

    assert found.reason == "STORAGE_UNAVAILABLE"
