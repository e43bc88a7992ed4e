"""A SHA-256 that a caller announces gives nothing and takes nothing: only bytes prove content."""

from __future__ import annotations

import hashlib

import pytest

from ingot.v1.job_pb2 import Job, JobState
from tests.integration.uploads.browser import put
from tests.integration.uploads.upload_servers import UploadServers, clip
from tests.refusals import reason_name_of

SUCCEEDED = JobState.JOB_STATE_SUCCEEDED


async def test_the_checksum_of_stored_content_gives_and_tells_nothing(
    servers: UploadServers,
) -> None:
    content = clip()
    sha256 = hashlib.sha256(content).hexdigest()
    stored = (await servers.ended(await servers.send(content))).media
    unknown = hashlib.sha256(b"of nothing").hexdigest()

    for announced in (sha256, unknown):
        refusal = await servers.refused(b"", sha256=announced, size_bytes=len(content))
        assert refusal.reason == "NOT_MEDIA"
        begun = await servers.link(content, sha256=announced)
        assert begun.url
        assert not begun.HasField("job")

        wrong = content[:-1] + b"x"
        for job in (
            await servers.send(wrong, sha256=announced),
            await _by_link(servers, wrong, sha256=announced),
        ):
            assert job.media.id != stored.id
            ended = await servers.ended(job)
            assert reason_name_of(ended) == "CHECKSUM_MISMATCH"
            assert not ended.media.HasField("blob")


@pytest.mark.parametrize("first", ["forged", "true"])
async def test_a_forged_upload_does_not_make_the_true_one_fail(
    first: str, servers: UploadServers
) -> None:
    content = clip()
    sha256 = hashlib.sha256(content).hexdigest()
    files = {"true": content, "forged": content[:-1] + b"x"}
    order = sorted(files, key=lambda name: name != first)
    jobs = {name: await servers.send(files[name], sha256=sha256) for name in order}
    assert jobs["true"].id != jobs["forged"].id
    assert jobs["true"].media.id != jobs["forged"].media.id

    ended = {name: await servers.ended(jobs[name]) for name in order}
    assert ended["true"].state == SUCCEEDED
    assert ended["true"].media.blob.sha256 == sha256
    assert reason_name_of(ended["forged"]) == "CHECKSUM_MISMATCH"


async def test_who_has_sent_the_bytes_gets_what_is_stored(servers: UploadServers) -> None:
    content = clip()
    sha256 = hashlib.sha256(content).hexdigest()
    stored = (await servers.ended(await servers.send(content))).media
    again = await servers.ended(await _by_link(servers, content, sha256=sha256))
    assert (again.state, again.cached, again.media) == (SUCCEEDED, True, stored)
    files = await servers.blobs.list_objects("media/")
    assert len(files) == 2
    assert not await servers.left()


async def _by_link(servers: UploadServers, content: bytes, *, sha256: str) -> Job:
    begun = await servers.link(content, sha256=sha256)
    assert await put(begun.url, content) == 200
    return await servers.complete(begun.upload_id)
