"""A file of which every announced byte has arrived is asked for once, whatever is wrong with it."""

from __future__ import annotations

import pytest

from ingot.v1.job_pb2 import JOB_STATE_FAILED, JOB_STATE_SUCCEEDED
from tests.harness import Harness
from tests.media import media
from tests.origin import Origin, Page
from tests.refusals import reason_name_of

pytestmark = pytest.mark.any_stores


@pytest.mark.parametrize("chunked", [False, True])
async def test_an_mp3_followed_by_zeros_is_stored_at_the_first_try(
    harness: Harness, origin: Origin, chunked: bool
) -> None:
    content = media("unheaded.mp3").read_bytes() + bytes(8192)
    url = origin.serve("/song.mp3", Page(content, content_type="audio/mpeg", chunked=chunked))

    job = await harness.ingest(url)

    assert job.state == JOB_STATE_SUCCEEDED, job.error
    assert len(origin.gets("/song.mp3")) == 1


async def test_a_cut_file_is_refused_without_another_try(harness: Harness, origin: Origin) -> None:
    content = media("faststart.mp4").read_bytes()
    url = origin.serve("/cut.mp4", Page(content[: len(content) // 2]))

    job = await harness.ingest(url)

    assert (job.state, reason_name_of(job)) == (JOB_STATE_FAILED, "TRUNCATED")
    assert len(origin.gets("/cut.mp4")) == 1
    await harness.assert_nothing_is_left()
