"""A file that its source replaces under way: one version of it is stored, never parts of two."""

from __future__ import annotations

import asyncio
import hashlib

import pytest

from ingot.v1.job_pb2 import JOB_STATE_SUCCEEDED
from tests.harness import Harness
from tests.media import media
from tests.origin import Origin, Page
from tests.waiting import TIMEOUT_SECONDS

pytestmark = pytest.mark.any_stores

BYTES = 400_000


def version(filler: bytes) -> bytes:
    """A real MP4 of BYTES bytes; players skip the filler."""
    content = media("faststart.mp4").read_bytes()
    size = BYTES - len(content)
    return content + size.to_bytes(4, "big") + b"free" + filler * (size - 8)


@pytest.mark.parametrize("ranges", [True, False], ids=["ranges", "no ranges"])
@pytest.mark.parametrize(
    ("field", "before", "after"),
    [
        ("etag", 'W/"1"', 'W/"2"'),
        ("etag", '"1"', '"2"'),
        ("last_modified", "Sat, 21 Nov 2026 10:00:00 GMT", "Sat, 21 Nov 2026 10:00:01 GMT"),
    ],
    ids=["weak tag", "strong tag", "date"],
)
async def test_a_download_that_resumes_in_another_version_stores_that_version_alone(
    harness: Harness, origin: Origin, field: str, before: str, after: str, ranges: bool
) -> None:
    old, new = version(b"o"), version(b"n")
    resumes = asyncio.Event()
    begins = asyncio.Event()
    begins.set()
    page = Page(old, ranges=ranges, breaks=[BYTES * 3 // 4], doors=[begins, resumes])
    setattr(page, field, before)
    url = origin.serve("/clip.mp4", page)

    async with asyncio.timeout(TIMEOUT_SECONDS):
        job = await harness.ask(url)
        ending = asyncio.create_task(harness.end(job))
        await origin.arrived(2)
        page.content = new
        setattr(page, field, after)
        resumes.set()
        job = await ending

    assert job.state == JOB_STATE_SUCCEEDED, job.error
    assert job.media.blob.sha256 == hashlib.sha256(new).hexdigest()
    assert await harness.download(media_id=job.media.id) == new
    assert getattr((await harness.manifest(job.media.id)).source_version, f"http_{field}") == after
