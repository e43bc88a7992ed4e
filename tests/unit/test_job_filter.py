"""Which jobs match the text that lists and watches are asked for."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from ingot.v1.job_pb2 import Job
from ingot.v1.job_service_pb2 import ListJobsRequest, WatchJobsRequest
from ingot.v1.media_pb2 import Media
from ingot_server.jobs.job_filter import job_filter
from ingot_server.jobs.lifecycle import PREVIEW


def _labels(job: Job) -> Mapping[str, str]:
    return job.labels


@pytest.mark.parametrize("request_type", [ListJobsRequest, WatchJobsRequest])
@pytest.mark.parametrize("text", ["holiday", "Autumn Bells", "carillon", "example.com/b"])
def test_text_is_found_in_the_name_title_uploader_and_url(
    request_type: type[ListJobsRequest | WatchJobsRequest], text: str
) -> None:
    job = Job(
        display_name="Holiday.mov",
        url="https://example.com/bells",
        media=Media(title="Autumn bells", uploader="The Carillon"),
    )
    accepts = job_filter(request_type(text=text), labels_of=_labels)
    assert accepts(job)
    assert not accepts(Job(display_name="Rain.mov", url="https://example.com/rain"))


@pytest.mark.parametrize("request_type", [ListJobsRequest, WatchJobsRequest])
def test_no_filter_matches_a_preview(
    request_type: type[ListJobsRequest | WatchJobsRequest],
) -> None:
    assert not job_filter(request_type(), labels_of=_labels)(Job(kind=PREVIEW))
