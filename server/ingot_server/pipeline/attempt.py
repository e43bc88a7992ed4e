"""One attempt to ingest what a job asks for, and its results."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TypeAlias

from ingot.v1.job_pb2 import Job
from ingot.v1.media_pb2 import Media
from ingot_server.jobs.lease import Lease
from ingot_server.library.identity import media_id
from ingot_server.library.manifest_pb2 import Manifest
from ingot_server.sources.source import Identity, Source


@dataclass(frozen=True, slots=True)
class Stored:
    """The media item is stored; `cached` if it was before this attempt."""

    media: Media
    cached: bool


@dataclass(frozen=True, slots=True)
class FollowJob:
    """Another job makes the media item; its result is the result of this one."""

    job_id: str


@dataclass(frozen=True, slots=True)
class Retry:
    """The job starts again: it has another identity now, or what is stored was changed."""


@dataclass(frozen=True, slots=True)
class NotAList:
    """The URL of a job that only expands lists does not name a list."""


@dataclass(frozen=True, slots=True)
class Expanded:
    """The job has children now, and waits for them without its lease."""


@dataclass(frozen=True, slots=True)
class Previewed:
    """The job was about what is behind a URL, and that is known now."""

    media: Media


AttemptResult: TypeAlias = Stored | FollowJob | Retry | NotAList | Expanded
"""How an attempt ends, if it does not raise a Failure."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to ingest what a job asks for."""

    lease: Lease
    source: Source
    identity: Identity
    """What the job's URL names."""
    stored: Manifest | None
    """The version to replace: a copy of a mutable URL that is too old. None if there is none."""

    @property
    def job(self) -> Job:
        """The job as it stands. The id of its media changes if a better identity is found."""
        return self.lease.job

    @property
    def lists_only(self) -> bool:
        """Whether the job expands a list, and stores no media item itself."""
        return bool(self.job.recipes)

    @property
    def seeks_list(self) -> bool:
        """Whether the job asks for a list, and only the response tells if the URL names one."""
        return self.job.options.playlist and not self.lists_only and self.source.may_be_list

    @property
    def requested_id(self) -> str:
        """The media id of the URL, which may turn out to be an alias."""
        return self.id_of(self.identity)

    @property
    def records(self) -> bool:
        """Whether the job records a live stream, as far as is known yet."""
        recorded = record_duration(self.source, self.job) is not None
        return recorded and self.job.media.id != media_id(self.identity.key, self.job.selection)

    @property
    def mutable(self) -> bool:
        """Whether the content stored under the job's media id may be replaced later."""
        return self.records or (self.source.mutable and self.job.media.id == self.requested_id)

    @property
    def blob_stem(self) -> str:
        """The beginning of the keys of this attempt's objects."""
        return blob_stem(self.lease, self.job.media.id)

    def id_of(self, identity: Identity) -> str:
        """Return the media id that `identity` has with this job's selection and recording."""
        recorded = record_duration(self.source, self.job) if self.records else None
        return media_id(identity.key, self.job.selection, recorded)


def record_duration(source: Source, job: Job) -> timedelta | None:
    """Return how much of a live stream `job` records; None if it wants the media item itself."""
    if not (source.may_be_live and job.options.HasField("record_duration")):
        return None
    return job.options.record_duration.ToTimedelta()


def blob_stem(lease: Lease, media_id: str) -> str:
    """Return the beginning of the keys under which the holder of `lease` stores its objects.

    The rest of a key is a file extension. No other run of the job uses the same keys.
    """
    return f"{job_stem(lease.job, media_id)}{lease.run}"


def job_stem(job: Job, media_id: str) -> str:
    """Return the beginning of the keys of all runs of `job`."""
    return f"media/{media_id}/{job.id}-"


def is_of_earlier_run(lease: Lease, media_id: str, key: str) -> bool:
    """Return whether an earlier run of the job has stored its object under `key`."""
    number = key.removeprefix(job_stem(lease.job, media_id)).partition(".")[0]
    return number.isdecimal() and int(number) < lease.run
