"""Calls `transition.lua`: works a change out on a copy of the record and hands it to the script.

The script gets the new record together with the revision it was made from; when somebody else was
quicker, the change is worked out again on what is there now.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from importlib import resources
from typing import Any, Final, cast

from redis import exceptions
from redis.asyncio import Redis

from ingot.v1 import job_pb2, reason_pb2
from ingot.v1.job_pb2 import Job
from ingot_server.config import Settings
from ingot_server.errors import Failure
from ingot_server.jobs.lifecycle import has_ended, standing

JOB_KEY: Final = "ingot:job:"
_OUTCOMES: Final = {
    job_pb2.JOB_STATE_SUCCEEDED: "succeeded",
    job_pb2.JOB_STATE_FAILED: "failed",
    job_pb2.JOB_STATE_CANCELLED: "cancelled",
}
# Answers of a Redis that fails over, is full, cannot write to its disk, or has no replicas left;
# for those in _STATE_CODES redis-py has no exception.
_STATES: Final = (
    exceptions.ReadOnlyError,
    exceptions.OutOfMemoryError,
    exceptions.MasterDownError,
    exceptions.ClusterDownError,
    exceptions.TryAgainError,
    exceptions.NoPermissionError,
)
_STATE_CODES: Final = ("NOREPLICAS", "MISCONF", "BUSY")
Argument = str | int | bytes


@dataclass(frozen=True, slots=True)
class Record:
    """A job with what only its worker and the sweep need to know."""

    job: Job
    losses: int
    token: str


class SlotTaken(Exception):
    """Another job that has not ended makes the media; `job_id` is its id."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"job {job_id} makes it already")
        self.job_id = job_id


class Transition:
    """The script, loaded again by itself after Redis has forgotten it."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        self._redis = redis
        self._settings = settings
        source = resources.files(__package__).joinpath("transition.lua").read_bytes()
        self._script = redis.register_script(source)

    async def run(self, operation: str, job_id: str, **arguments: Argument) -> list[Any]:
        """One operation of the script, which documents arguments and answers."""
        flat: list[Argument] = [operation, job_id]
        for name, value in arguments.items():
            flat += [name, value]
        with unavailable():
            return cast("list[Any]", await self._script(args=flat))

    async def read(self, job_id: str) -> Record | None:
        with unavailable():
            values = await self._redis.hmget(JOB_KEY + job_id, ["record", "losses", "token"])
        content, losses, token = cast("list[bytes]", values)
        if content is None:
            return None
        return Record(Job.FromString(content), int(losses), token.decode())

    async def parents(self, job_id: str) -> list[str]:
        """The ids of the jobs that a job is a part of."""
        with unavailable():
            parents = await cast(
                "Awaitable[bytes | None]", self._redis.hget(JOB_KEY + job_id, "parents")
            )
        return parents.decode().split() if parents else []

    async def change(
        self,
        job_id: str,
        change: Callable[[Job], Job | None],
        **arguments: Argument,
    ) -> Job | None:
        """Makes `change` on the job as it stands; None when it, or a condition, says no.

        `change` is called once or more and must not touch the job it is given. Unless
        `arguments` say otherwise the job is nobody's afterwards, and looked after in
        `settings.resend_interval`. Raises SlotTaken when `arguments` move it to a slot that another
        job is in.
        """
        # One id for all tries: a change whose answer was lost must not be made twice.
        made = secrets.token_hex(8)
        while True:
            record = await self.read(job_id)
            new = change(record.job) if record is not None else None
            if record is None or new is None:
                return None
            new.revision = record.job.revision + 1
            defaults: dict[str, Argument] = {
                "deadline": milliseconds(self._settings.resend_interval),
                "next_token": "",
            }
            outcome, *content = await self.run(
                "change",
                job_id,
                **defaults | arguments | self.content(new),
                change=made,
                expected=record.job.revision,
                milestone=int(standing(record.job) != standing(new)),
            )
            if outcome == b"done":
                return Job.FromString(content[0])
            if outcome == b"taken":
                raise SlotTaken(content[0].decode())
            if outcome != b"stale":
                return None

    def content(self, job: Job) -> dict[str, Argument]:
        """The arguments that describe a new record; completes a job that has ended."""
        if has_ended(job):
            job.ClearField("retry_time")
            if not job.HasField("end_time"):
                job.end_time.GetCurrentTime()
        return {
            "record": job.SerializeToString(),
            "revision": job.revision,
            "ended": int(has_ended(job)),
            "ttl": milliseconds(self._settings.job_ttl),
            **_told(job),
        }


def _told(job: Job) -> dict[str, Argument]:
    """What the parents of a job are told of it."""
    progress = job.progress
    running = job.state == job_pb2.JOB_STATE_RUNNING and job.HasField("progress")
    return {
        "outcome": _OUTCOMES.get(job.state, ""),
        "cached": int(job.cached and job.state == job_pb2.JOB_STATE_SUCCEEDED),
        "bytes": 0 if job.cached else job.media.blob.size_bytes,
        "measure": f"{progress.bytes_done} {progress.bytes_per_second:.0f} {progress.fraction:.4f}"
        if running
        else "",
    }


@contextmanager
def unavailable() -> Iterator[None]:
    """Turns what redis-py raises when Redis cannot be used into Failure with CACHE_UNAVAILABLE."""
    try:
        yield
    except exceptions.RedisError as error:
        if isinstance(error, exceptions.ResponseError) and not _is_for_now(error):
            raise
        raise Failure(
            reason_pb2.REASON_CACHE_UNAVAILABLE, f"Redis cannot be used now: {error}"
        ) from error


def _is_for_now(error: exceptions.ResponseError) -> bool:
    """Whether Redis refuses because of the state that it is in, and not because of what it got."""
    return isinstance(error, _STATES) or str(error).startswith(_STATE_CODES)


def milliseconds(duration: timedelta) -> int:
    """As Redis counts time."""
    return round(duration.total_seconds() * 1000)
