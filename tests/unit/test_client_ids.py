"""The client tells ids of jobs, ids of media items and URLs from one another."""

from __future__ import annotations

import pytest

from ingot import Selection
from ingot.ids import is_job_id, is_media_id
from ingot_server.jobs.lifecycle import new_job_id
from ingot_server.library.identity import media_id

MEDIA_ID = media_id("http:x", Selection())


def test_the_ids_that_the_server_makes_are_told_apart() -> None:
    for job_id in new_job_id(), f"cached-ingest-{MEDIA_ID}":
        assert is_job_id(job_id)
        assert not is_media_id(job_id)
    assert is_media_id(MEDIA_ID)
    assert not is_job_id(MEDIA_ID)


@pytest.mark.parametrize("text", ["", "abc", "http://example.com/clip.mp4", "0" * 25])
def test_what_is_mistyped_is_not_an_id(text: str) -> None:
    assert not is_job_id(text)
    assert not is_media_id(text)
