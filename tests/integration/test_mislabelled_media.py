"""What a server sends is known by its first bytes, whatever its name and its Content-Type."""

from __future__ import annotations

import pytest

from ingot.v1.job_pb2 import JOB_STATE_SUCCEEDED
from tests.harness import Harness
from tests.manifests import serve_manifest
from tests.media import media
from tests.origin import Origin, Page

pytestmark = pytest.mark.any_stores


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/clip.html", "text/html; charset=utf-8"),
        ("/clip.jpg", "image/jpeg"),
        ("/clip", "multipart/form-data; boundary=x"),
        ("/clip.m3u8", "audio/x-mpegurl"),
        ("/clip.mpd", "application/dash+xml"),
    ],
)
async def test_a_media_file_is_stored_whatever_it_is_called(
    harness: Harness, origin: Origin, path: str, content_type: str
) -> None:
    content = media("faststart.mp4").read_bytes()
    url = origin.serve(path, Page(content, content_type=content_type))

    job = await harness.ingest(url)

    assert job.state == JOB_STATE_SUCCEEDED, job.error
    assert job.media.blob.content_type == "video/mp4"
    assert await harness.download(media_id=job.media.id) == content


@pytest.mark.parametrize(
    ("packing", "path", "content_type"),
    [
        ("hls", "/clip.mp4", "video/mp4"),
        ("hls", "/clip.mpd", "image/jpeg"),
        ("dash", "/clip.m3u8", "text/html"),
    ],
)
async def test_a_manifest_is_read_whatever_it_is_called(
    harness: Harness, origin: Origin, packing: str, path: str, content_type: str
) -> None:
    url = serve_manifest(origin, packing, at=path, content_type=content_type)

    job = await harness.ingest(url)

    assert job.state == JOB_STATE_SUCCEEDED, job.error
    assert round(job.media.duration.ToMilliseconds() / 1000) == 2
    assert job.media.video
