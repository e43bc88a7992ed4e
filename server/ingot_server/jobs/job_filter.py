"""The filter of jobs that all calls about many jobs share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from ingot.v1.job_pb2 import Job
from ingot.v1.job_service_pb2 import (
    CancelJobsRequest,
    ListJobsRequest,
    RetryJobsRequest,
    WatchJobsRequest,
)
from ingot_server.jobs.job_index import Among
from ingot_server.jobs.lifecycle import is_preview

FilteringRequest: TypeAlias = (
    ListJobsRequest | WatchJobsRequest | CancelJobsRequest | RetryJobsRequest
)
"""All have the same filters."""


def job_filter(
    request: FilteringRequest, labels_of: Callable[[Job], Mapping[str, str]]
) -> Callable[[Job], bool]:
    """Return whether a job matches all filters of `request`; without any, every job does.

    `labels_of` returns the labels of a job that the caller sees. A preview matches no filter,
    because no caller sees it.
    """
    states = frozenset(request.states)
    kinds = frozenset(request.kinds)
    labels = dict(request.labels)
    text = request.text.casefold()

    def accepts(job: Job) -> bool:
        return (
            not is_preview(job)
            and (not states or job.state in states)
            and (not kinds or job.kind in kinds)
            and request.source in ("", job.media.source.name)
            and request.parent_job_id in ("", job.parent_job_id)
            and request.media_id in ("", job.media.id)
            and request.subscription_id in ("", job.subscription_id)
            and (not labels or labels.items() <= labels_of(job).items())
            and (not text or any(text in shown.casefold() for shown in _texts(job)))
        )

    return accepts


def among(request: FilteringRequest) -> Among:
    """Return among which jobs all those are that match the filters of `request`."""
    return Among(frozenset(request.states), request.parent_job_id)


def _texts(job: Job) -> tuple[str, ...]:
    """Return what a person knows a job by."""
    return job.display_name, job.media.title, job.media.uploader, job.url
