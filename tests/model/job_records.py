"""The records of jobs in a Redis, and their model, with what the operations on both share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Final, TypeVar, cast

from ingot.v1 import job_pb2
from ingot.v1.job_pb2 import Job
from ingot.v1.media_pb2 import Media
from ingot.v1.recipe_pb2 import Recipe
from ingot_server.caller_limits import CallerLimits
from ingot_server.config import Settings
from ingot_server.jobs.outcomes import (
    LeaseLost,
)
from ingot_server.jobs.records import Records
from ingot_server.jobs.throttle import SourceThrottle
from ingot_server.redis import Redis
from ingot_server.setting_values import CacheSharing
from ingot_server.source_settings import SourceSettings
from tests.model.fair_dispatch import Round
from tests.model.invariants import check, pairs
from tests.model.job_model import (
    CANCELLED,
    LEASE,
    RUNNING,
    SUCCEEDED,
    TTL,
    JobModel,
    ModelJob,
    ModelSource,
    Place,
)
from tests.model.job_store import Clock, ModelRedis, finish

_Result = TypeVar("_Result")

SETTINGS = Settings(
    lease=timedelta(seconds=8),
    resend_interval=timedelta(seconds=5),
    job_ttl=timedelta(seconds=20),
    source_wait_timeout=timedelta(seconds=30),
    jobs_per_host=2,
    playlist_jobs=2,
    worker_losses=3,
    cache_sharing=CacheSharing.PRIVATE,
)
SOURCES = {
    "youtube": SourceSettings(
        rate=1,
        rate_period=timedelta(seconds=4),
        burst=2,
        concurrency=3,
        block=timedelta(seconds=5),
        longest_block=timedelta(seconds=20),
    ),
    "telegram": SourceSettings(concurrency=1),
}
HOSTS = {"x.example": "http", "y.example": "http", "tube": "youtube", "tele": "telegram"}
WORKERS = {"w1": 1, "w2": 2, "w3": 5}
CONVERTERS = {"c1": 2, "c2": 2}
QUEUES = {"fetch": WORKERS, "convert": CONVERTERS}
LIMITS = {"b": CallerLimits(queued_jobs=3), "c": CallerLimits(running_jobs=2)}
"""Those of callers that have some."""
_RECIPES: Final = {"mp3": Recipe(mp3=Recipe.Mp3()), "mp4": Recipe(mp4=Recipe.Mp4())}


class JobRecords:
    """The records of jobs in a Redis that is empty at first, and their model."""

    def __init__(self, redis: ModelRedis) -> None:
        Clock.milliseconds += 1_000_000
        self.redis = redis
        client = cast("Redis", redis)
        self.records = Records(client, SETTINGS)
        self.throttle = SourceThrottle(client, SOURCES, SETTINGS)
        self.model = JobModel(
            Clock.milliseconds,
            {
                name: ModelSource(
                    name,
                    interval=4_000 if each.rate else 0,
                    burst=each.burst,
                    concurrency=each.concurrency,
                    wait_timeout=30_000,
                )
                for name, each in SOURCES.items()
            },
            {caller: each.running_jobs for caller, each in LIMITS.items() if each.running_jobs},
        )
        self.tokens: dict[str, str] = {}
        """All fencing tokens that there were -> their jobs"""
        self.have_names = False
        """Whether it is known who calls."""
        self._made = 0
        self.steps = 0
        self.is_broken = False
        """A check has failed."""
        finish(self.throttle.announce_limits(list(SOURCES)))
        self._check()

    def _do(self, call: Coroutine[Any, Any, _Result]) -> _Result:
        return finish(call)

    def _do_in_loop(self, call: Coroutine[Any, Any, _Result]) -> _Result:
        """Do what makes tasks."""
        return self.redis.runner.run(call)

    @contextmanager
    def _proving(self, job: ModelJob, token: str) -> Iterator[None]:
        """The body writes with a token, which succeeds if that is the job's."""
        is_valid = token == job.token != ""
        try:
            yield
        except LeaseLost:
            assert not is_valid
        else:
            assert is_valid, "a void token was accepted"

    def _draft(
        self, caller: str, host: str, priority: int, media: str, recipe: str
    ) -> tuple[Job, ModelJob]:
        self._made += 1
        job_id = f"job{self._made:04}"
        media = f"{media or job_id}{recipe}"
        job = Job(
            id=job_id,
            kind=job_pb2.JOB_KIND_CONVERT if recipe else job_pb2.JOB_KIND_INGEST,
            recipes=[_RECIPES[recipe]] if recipe else [],
            url=f"https://{host}/{media}",
            priority=job_pb2.JobPriority.ValueType(priority),
            media=Media(id=media),
            requested_by=self._asker(caller),
        )
        job.media.source.name = HOSTS[host]
        new = ModelJob(
            job_id,
            "convert" if recipe else "fetch",
            caller,
            "" if recipe else host,
            "" if recipe else HOSTS[host],
            priority,
            0 if recipe == "mp4" else 1,
            media,
            tenant=self._asker(caller),
        )
        return job, new

    def _add(self, job: ModelJob, *, is_stored: bool) -> None:
        self.model.jobs[job.id] = job
        if not is_stored:
            self.model.active[job.key] = job.id
            return
        job.key, job.state, job.place = "", SUCCEEDED, Place.ENDED
        for parent in self.model.parents(job):
            parent.counts["succeeded"] += 1
        if not self.model.has_living_parent(job):
            self.model.expire(job, TTL)

    def _asker(self, caller: str) -> str:
        return caller if self.have_names else ""

    def _share(self, job: ModelJob) -> None:
        """A caller joins a job."""
        if not self.have_names and job.parents:
            job.is_shared = True
        self.model.bring_forward(job)

    def _join(self, parent: ModelJob, job: ModelJob) -> None:
        """A job that exists becomes a child."""
        if not job.parents and not job.askers:
            job.is_shared = True
        job.parents.append(parent.id)
        parent.counts["total"] += 1
        self.model.bring_forward(job)

    def _ask(self, job: ModelJob, caller: str, priority: int) -> None:
        if self.have_names and not job.has_ended:
            job.askers[caller] = max(priority, job.askers.get(caller, 0))

    def _remember(self, request_id: str, job: ModelJob, fingerprint: str) -> None:
        if request_id:
            self.model.requests[request_id] = job.id, fingerprint

    def _claimed(self, job: ModelJob, worker: str) -> None:
        self.model.changed(job, RUNNING, Place.RUNNING)
        job.run += 1
        job.deadline = self.model.now + LEASE
        job.not_before, job.commits = self.model.now, False
        announced = pairs(self.redis.stored.get(f"slots:{job.queue}", []))
        if not worker:
            job.slots = 0
        elif job.worker != worker:
            job.slots = job.cost or int(announced.get(worker, 1))
        job.worker = worker
        for parent in self.model.parents(job):
            parent.turns.pop(job.id, None)

    def _cancelled(self, job: ModelJob) -> bool:
        if job.has_ended or (job.place is Place.RUNNING and job.commits):
            return False
        self.model.end(job, CANCELLED)
        return True

    def _settle(self, parent: ModelJob) -> None:
        """What follows for the children of a cancelled job."""
        cancelled = [
            child
            for child in self.model.children(parent)
            if not self.model.is_wanted_apart_from(parent, child) and self._cancelled(child)
        ]
        for child in cancelled:
            if child.has_left:
                self._settle(child)
        if parent.has_ended:
            parent.is_settled = True

    def in_place(self, *places: Place) -> list[ModelJob]:
        return [job for job in self.model.jobs.values() if job.place in places]

    def _record(self, job: ModelJob) -> Job:
        found = finish(self.records.get(job.id))
        assert found is not None
        return found

    def _round(self, queue: str, before: Mapping[str, Any]) -> Round:
        slots = {name: int(each) for name, each in pairs(before.get(f"slots:{queue}", [])).items()}
        until = pairs(before.get(f"slots-until:{queue}", []))
        left = pairs(before.get(f"slots-left:{queue}", []))
        lanes = {}
        passed: Counter[str] = Counter()
        for key, value in before.items():
            if key.startswith(f"ready:{queue} ") and key.count(" ") == 2:
                _, caller, priority = key.split(" ")
                lanes[caller, int(priority)] = list(pairs(value))
        for name, value in pairs(before.get(f"turns:{queue}", [])).items():
            if name.startswith("passed "):
                passed[name.removeprefix("passed ")] = int(value)
        return Round(
            self.model,
            queue,
            workers={
                name: each for name, each in slots.items() if int(until[name]) > self.model.now
            },
            gone={
                **{name: int(each) for name, each in left.items()},
                **{
                    name: each for name, each in slots.items() if int(until[name]) <= self.model.now
                },
            },
            jobs_per_host=SETTINGS.jobs_per_host if queue == "fetch" else 0,
            permit_ms=LEASE,
            passed=passed,
            turns=lanes,
        )

    def _check(self) -> None:
        self.steps += 1
        self.is_broken = True
        check(self.model, self.redis)
        self.is_broken = False


def ended_children(parent: ModelJob) -> int:
    """How many of its children have ended."""
    return parent.counts["succeeded"] + parent.counts["failed"] + parent.counts["cancelled"]
