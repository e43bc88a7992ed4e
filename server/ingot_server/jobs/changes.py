"""Named changes of a job's record, for `Lease.update`, `Lease.note` and `Lease.adopt`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TypeAlias

from ingot.v1 import job_pb2
from ingot.v1.job_pb2 import Job, JobProgress
from ingot.v1.media_pb2 import Extraction, Media
from ingot_server.errors import Failure

Change: TypeAlias = Callable[[Job], None]


def entered(stage: job_pb2.JobStage.ValueType) -> Change:
    """Return the change that has a job enter `stage`."""

    def change(job: Job) -> None:
        job.stage = stage

    return change


def progressed(measure: Callable[[], JobProgress]) -> Change:
    """Return the change that sets the progress to what `measure` returns at that time."""

    def change(job: Job) -> None:
        job.progress.CopyFrom(measure())

    return change


def converted(done_seconds: float, total_seconds: float, *, speed: float) -> Change:
    """Return the change that reports the progress of a conversion.

    The fraction never shrinks, although a conversion that starts again begins at zero. `speed` is
    how many seconds are done in one second.
    """

    def change(job: Job) -> None:
        job.progress.speed = speed
        share = min(1.0, done_seconds / total_seconds) if total_seconds else 0.0
        job.progress.fraction = max(job.progress.fraction, share)
        if speed > 0:
            left = max(0.0, total_seconds - done_seconds) / speed
            job.progress.eta.FromTimedelta(timedelta(seconds=left))

    return change


def identified_as(media: Media, *, playlist: bool | None = None) -> Change:
    """Return the change that gives a job the identity in `media`, which has nothing else.

    With `playlist`, it also sets whether the job is about a list.
    """

    def change(job: Job) -> None:
        job.media.MergeFrom(media)
        if playlist is not None:
            job.options.playlist = playlist

    return change


def extracted_with(extraction: Extraction) -> Change:
    """Return the change that records which extractor and format a job uses."""

    def change(job: Job) -> None:
        job.extraction.CopyFrom(extraction)

    return change


def marked_as_list(is_list: bool) -> Change:
    """Return the change that says whether a job is about a list."""

    def change(job: Job) -> None:
        job.options.playlist = is_list

    return change


def succeeded(media: Media, *conversions: Media, cached: bool) -> Change:
    """Return the change that ends a job with what it stored, or with what was `cached`."""

    def change(job: Job) -> None:
        job.state = job_pb2.JOB_STATE_SUCCEEDED
        job.cached = cached
        job.media.CopyFrom(media)
        job.conversions.extend(conversions)
        job.ClearField("error")

    return change


def failed(failure: Failure) -> Change:
    """Return the change that ends a job with a failure."""

    def change(job: Job) -> None:
        job.state = job_pb2.JOB_STATE_FAILED
        job.error.CopyFrom(failure.status())

    return change


def titled(title: str) -> Change:
    """Return the change that gives the job's list or media item a title."""

    def change(job: Job) -> None:
        job.media.title = title

    return change


def mirrored(child: Job, *, fraction: float) -> Change:
    """Return the change that shows a child's stage and bytes, and `fraction` unless it is less."""

    def change(job: Job) -> None:
        job.stage = child.stage
        job.progress.bytes_done = child.progress.bytes_done
        job.progress.bytes_per_second = child.progress.bytes_per_second
        job.progress.fraction = max(job.progress.fraction, fraction)

    return change
