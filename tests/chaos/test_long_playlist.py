"""A long list, run completely. It is longer than a page of anything that reads its children."""

from __future__ import annotations

import pytest

from ingot.v1 import job_pb2, reason_pb2
from ingot.v1.job_pb2 import ChildSummary
from tests.integration.conftest import settings, stack
from tests.integration.test_real_lists import serve_feed
from tests.playlist_harness import PlaylistHarness, ingot, worker
from tests.refusals import reason_of

__all__ = ["ingot", "settings", "stack"]


@pytest.mark.any_stores
@pytest.mark.timeout(1200)
async def test_a_long_list_of_which_three_entries_are_bad(ingot: PlaylistHarness) -> None:
    good = ingot.entries(247)
    gone = [ingot.origin.url(f"/gone-{number}.mp4") for number in range(3)]
    with worker(ingot, playlist_jobs=16, jobs_per_host=16):
        job = await ingot.make(serve_feed(ingot, "long.xml", [*good, *gone]))
        parent = (await ingot.ended(job.id))[-1]

    assert parent.state == job_pb2.JOB_STATE_SUCCEEDED
    assert parent.children == ChildSummary(total=250, succeeded=247, failed=3)
    failed = [child for child in await ingot.children(parent) if child.HasField("error")]
    assert {child.url for child in failed} == set(gone)
    assert {reason_of(child) for child in failed} == {reason_pb2.REASON_MEDIA_DOES_NOT_EXIST}
