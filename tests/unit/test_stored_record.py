"""Records of jobs are small in Redis, whatever their callers put into them."""

from __future__ import annotations

import pytest

from ingot.v1.job_pb2 import Job
from ingot.v1.media_pb2 import Media, Source
from ingot_server.jobs.stored_record import from_record, to_record

LONGEST_URL = "https://example.com/" + "abcdefgh" * 1020


def job(url: str, labels: int) -> Job:
    """What an ingest of a URL looks like, which stands in it in several places."""
    return Job(
        id="0" * 26,
        url=url,
        fetch_url=url,
        display_name=url[:200],
        media=Media(id="a" * 52, url=url, source=Source(name="http", key=f"http:{url}")),
        labels={f"label-{number:02}" + "x" * 50: "v" * 250 for number in range(labels)},
    )


@pytest.mark.parametrize(
    "written", [Job(), job("https://example.com/clip.mp4", 0), job(LONGEST_URL, 64)]
)
def test_a_record_is_read_as_it_was_written(written: Job) -> None:
    assert from_record(to_record(written)) == written


def test_the_record_of_a_large_request_is_small() -> None:
    large = job(LONGEST_URL, 64)
    assert len(large.SerializeToString()) > 50_000
    assert len(to_record(large)) < 3_000


def test_a_usual_record_is_stored_as_it_is() -> None:
    usual = job("https://example.com/clip.mp4", 2)
    assert to_record(usual) == usual.SerializeToString()
