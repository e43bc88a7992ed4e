"""One attempt to ingest what a job asks for, and its results."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TypeAlias

from ingot.v1.job_pb2 import Job
from ingot.v1.media_pb2 import Media
from ingot_server.jobs.lease import Lease
from ingot_server.library.identity import media_id
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
    """The job has another identity now and starts again."""


@dataclass(frozen=True, slots=True)
class NotAList:
    """The URL of a job that only expands lists does not name a list."""


@dataclass(frozen=True, slots=True)
class Expanded:
    """The job has children now, and waits for them without its lease."""


AttemptResult: TypeAlias = Stored | FollowJob | Retry | NotAList | Expanded
"""How an attempt ends, if it does not raise a Failure."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to bring in what a job asks for."""

    lease: Lease
    source: Source
    identity: Identity
    """What the job's URL names."""
    stored: Media | None
    """What is to be replaced: a copy of a mutable URL that is too old."""

    @property
    def job(self) -> Job:
        """As it stands; its media's id changes when a better identity is found."""
        return self.lease.job

    @property
    def lists_only(self) -> bool:
        """Whether the job hands out the entries of a list, and makes no media itself."""
        return bool(self.job.recipes)

    @property
    def seeks_list(self) -> bool:
        """Whether the job asks for a list where only the answer tells whether the URL names one."""
        return self.job.options.playlist and not self.lists_only and self.source.may_be_list

    @property
    def asked_id(self) -> str:
        """The media id of the URL, which may turn out to be an alias."""
        return self.name(self.identity)

    @property
    def records(self) -> bool:
        """Whether what the job makes is a recording of a live stream, as far as is known."""
        recorded = record_duration(self.source, self.job) is not None
        return recorded and self.job.media.id != media_id(self.identity.key, self.job.selection)

    @property
    def mutable(self) -> bool:
        """Whether what is stored under the job's media id may be replaced one day."""
        return self.records or (self.source.mutable and self.job.media.id == self.asked_id)

    def name(self, identity: Identity) -> str:
        """The media id of `identity` as the job wants it."""
        recorded = record_duration(self.source, self.job) if self.records else None
        return media_id(identity.key, self.job.selection, recorded)


def record_duration(source: Source, job: Job) -> timedelta | None:
    """How much `job` wants recorded of what may be live; None: it wants the media itself."""
    if not (source.may_be_live and job.options.HasField("record_duration")):
        return None
    return job.options.record_duration.ToTimedelta()
