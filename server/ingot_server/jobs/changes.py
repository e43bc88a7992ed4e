"""Named changes of a job's record, for `Lease.update`, `Lease.note` and `Lease.adopt`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Final, TypeAlias

from ingot.v1 import job_pb2
from ingot.v1.job_pb2 import Job, JobWaiting, StageProgress
from ingot.v1.media_pb2 import Extraction, Media
from ingot.v1.recipe_pb2 import Recipe
from ingot_server.errors import Failure
from ingot_server.jobs.display_name import shortened
from ingot_server.jobs.lifecycle import ingest_kind

Change: TypeAlias = Callable[[Job], None]
_UPLOAD: Final = "upload"
"""The source name of uploads."""


def entered(stage: job_pb2.JobStage.ValueType) -> Change:
    """Return the change that has a job enter `stage`, which starts without measurements."""

    def change(job: Job) -> None:
        if job.stage != stage:
            job.stage = stage
            job.progress.ClearField("stage")

    return change


def progressed(stage: job_pb2.JobStage.ValueType, measure: Callable[[], StageProgress]) -> Change:
    """Return the change that sets the progress of `stage` to what `measure` returns at that time.

    It does nothing when the job is in another stage.
    """

    def change(job: Job) -> None:
        if job.stage == stage:
            job.progress.stage.CopyFrom(measure())

    return change


def converted(done_seconds: float, total_seconds: float, *, speed: float) -> Change:
    """Return the change that reports the progress of a conversion.

    `speed` is how many seconds are done in one second.
    """
    progress = StageProgress(speed=speed)
    if total_seconds:
        progress.fraction = min(1.0, done_seconds / total_seconds)
    if speed > 0:
        left = max(0.0, total_seconds - done_seconds) / speed
        progress.eta.FromTimedelta(timedelta(seconds=left))
    return progressed(job_pb2.JOB_STAGE_CONVERTING, lambda: progress)


def identified_as(media: Media, *, playlist: bool | None = None) -> Change:
    """Return the change that gives a job the identity in `media`, which has nothing else.

    With `playlist`, it also sets whether the job is about a list.
    """

    def change(job: Job) -> None:
        job.media.MergeFrom(media)
        if playlist is not None:
            marked_as_list(playlist)(job)

    return change


def extracted_with(extraction: Extraction) -> Change:
    """Return the change that records which extractor and format a job uses."""

    def change(job: Job) -> None:
        job.extraction.CopyFrom(extraction)

    return change


def marked_as_list(is_list: bool) -> Change:
    """Return the change that says whether a job looks for a list."""

    def change(job: Job) -> None:
        job.options.playlist = is_list
        if not is_list:
            job.kind = ingest_kind(job.recipes)

    return change


def succeeded(media: Media, *conversions: Media, cached: bool) -> Change:
    """Return the change that ends a job with what it stored, or with what was `cached`."""

    def change(job: Job) -> None:
        job.state = job_pb2.JOB_STATE_SUCCEEDED
        job.cached = cached
        job.media.CopyFrom(media)
        job.conversions.extend(conversions)
        _rename(job, media.title)

    return change


def failed(failure: Failure) -> Change:
    """Return the change that ends a job with a failure."""

    def change(job: Job) -> None:
        job.state = job_pb2.JOB_STATE_FAILED
        job.error.CopyFrom(failure.status())

    return change


def waits(waiting: JobWaiting) -> Change:
    """Return the change that says what a job waits for."""

    def change(job: Job) -> None:
        job.waiting.CopyFrom(waiting)

    return change


def goes_on(job: Job) -> None:
    """Change a job that waits no longer."""
    job.ClearField("waiting")


def described(media: Media) -> Change:
    """Return the change that shows what the source says about a media item before it is stored.

    That is the title, uploader, duration and thumbnail_url; what `media` does not have stays.
    """

    def change(job: Job) -> None:
        for name in ("title", "uploader", "thumbnail_url"):
            setattr(job.media, name, getattr(media, name) or getattr(job.media, name))
        if media.HasField("duration") and not _is_cut(job.media.recipe):
            job.media.duration.CopyFrom(media.duration)
        _rename(job, media.title)

    return change


def found_list(title: str) -> Change:
    """Return the change that makes a job that of a list."""

    def change(job: Job) -> None:
        job.kind = job_pb2.JOB_KIND_PLAYLIST
        job.media.title = title
        _rename(job, title)

    return change


def mirrored(child: Job, *, fraction: float) -> Change:
    """Return the change that shows in its parent what a child does, and its media.

    `fraction` of the parent is done.
    """

    def change(job: Job) -> None:
        job.stage = child.stage or job.stage
        job.progress.stage.CopyFrom(child.progress.stage)
        job.progress.fraction = fraction
        if child.HasField("waiting"):
            job.waiting.CopyFrom(child.waiting)
        else:
            job.ClearField("waiting")
        if child.HasField("last_attempt_error"):
            job.last_attempt_error.CopyFrom(child.last_attempt_error)
        described(child.media)(job)

    return change


def _is_cut(recipe: Recipe) -> bool:
    return recipe.HasField("start_offset") or recipe.HasField("end_offset")


def _rename(job: Job, title: str) -> None:
    # The sender of a file knows it by its name.
    if title and job.media.source.name != _UPLOAD:
        job.display_name = shortened(title)
