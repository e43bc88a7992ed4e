"""Operations on the records of jobs, made on the real scripts and on a model at the same time.

After each, everything that is stored must be what the model says (`_check`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from ingot.v1 import job_pb2, reason_pb2
from ingot.v1.job_pb2 import JobWaiting
from ingot.v1.media_pb2 import Media
from ingot_server.caller_limits import NO_LIMITS
from ingot_server.errors import Failure
from ingot_server.jobs.changes import failed, succeeded
from ingot_server.jobs.outcomes import (
    ChildrenChanged,
    CircularEntry,
    CircularWait,
    Orphaned,
    QueuedAgain,
    SingleFlightTaken,
    StillWanted,
)
from ingot_server.jobs.placement import Work
from tests.model.job_model import (
    FAILED,
    LEASE,
    QUEUED,
    RECHECK,
    RUNNING,
    SUCCEEDED,
    ModelJob,
    Place,
)
from tests.model.job_records import LIMITS, QUEUES, SETTINGS, SOURCES, JobRecords, ended_children
from tests.model.job_store import Clock

_CAUSE_RETRY = JobWaiting.CAUSE_RETRY


class World(JobRecords):
    """The operations: each is made on the records and on their model."""

    # Callers

    def create(
        self,
        *,
        caller: str = "a",
        host: str = "x.example",
        priority: int = 2,
        media: str = "",
        recipe: str = "",
        request_id: str = "",
        is_stored: bool = False,
    ) -> ModelJob | None:
        """Request a media item; `is_stored` if it is found in the catalog."""
        job, new = self._draft(caller, host, priority, media, recipe)
        fingerprint = f"{host} {media} {recipe}"
        if is_stored:
            job.state = SUCCEEDED
        found: ModelJob | None = None
        used_for = fingerprint
        used, text = self.model.requests.get(request_id, ("", ""))
        if used in self.model.jobs:
            found, used_for = self.model.jobs[used], text
            if used_for == fingerprint:
                self._ask(found, caller, priority)
        if found is None and not is_stored and new.key in self.model.active:
            found = self.model.jobs[self.model.active[new.key]]
            self._share(found)
            self._ask(found, caller, priority)
            self._remember(request_id, found, fingerprint)
        limits = LIMITS.get(caller, NO_LIMITS)
        queued = [each for each in self.model.counted() if each.state == QUEUED]
        is_full = 0 < limits.queued_jobs <= sum(each.caller == caller for each in queued)
        try:
            creation = self._do(
                self.records.create(
                    job,
                    caller=caller,
                    limits=limits,
                    request_id=request_id,
                    fingerprint=fingerprint,
                )
            )
        except Failure as failure:
            if failure.reason == reason_pb2.REASON_QUOTA_EXCEEDED:
                assert is_full
                assert found is None
                self._check()
                return None
            is_reused = failure.reason == reason_pb2.REASON_REQUEST_ID_REUSED
            assert is_reused
            assert found is not None
            assert used_for != fingerprint
            self._check()
            return None
        assert creation.is_new is (found is None)
        if found is None:
            assert is_stored or not is_full, "a caller has more queued jobs than it may"
            found = new
            self._add(new, is_stored=is_stored)
            self._ask(new, caller, priority)
            if not is_stored:
                self.model.make_ready(new)
            self._remember(request_id, new, fingerprint)
        else:
            self.model.set_priority(found, max(found.priority, priority))
        assert creation.job.id == found.id
        assert used_for == fingerprint
        self._check()
        return found

    def cancel(self, job: ModelJob, caller: str = "") -> None:
        """Cancel a job for all, or for a caller with a name, which others may want."""
        withdraws = self._asker(caller)
        may_end = not (job.has_ended or (job.place is Place.RUNNING and job.commits))
        is_wanted = False
        if withdraws and may_end:
            job.askers.pop(withdraws, None)
            is_wanted = self.model.is_wanted_by_others(job, withdraws)
        try:
            result = self._do_in_loop(self.records.cancel(job.id, withdraws=withdraws))
        except StillWanted as wanted:
            assert is_wanted
            result = wanted.job
            job.is_counted = job.is_counted and job.caller != withdraws
            if job.askers and not job.parents:
                self.model.set_priority(job, max(job.askers.values()))
        else:
            assert not is_wanted, "a job is cancelled that another caller wants"
        assert result is not None
        if not job.has_ended and not is_wanted:
            self._cancelled(job)
            self._settle(job)
        assert result.state == job.state
        self._check()

    # Workers

    def announce(self, queue: str, worker: str) -> None:
        self._do(self.records.dispatch.announce(worker, Work(queue), QUEUES[queue][worker]))
        self._check()

    def announce_all(self) -> None:
        """Announce all workers, one after the other."""
        announcing = [
            self.records.dispatch.announce(worker, Work(queue), slots)
            for queue, workers in QUEUES.items()
            for worker, slots in workers.items()
        ]
        for _ in self.redis.finish_together(announcing):
            self._check()

    def retire(self, queue: str, worker: str) -> None:
        for job in self.in_place(Place.DISPATCHED):
            if (job.queue, job.worker) == (queue, worker):
                self.model.free(job)
                self.model.make_ready(job)
        self._do(self.records.dispatch.retire(worker, Work(queue)))
        self._check()

    def dispatch(self, queue: str) -> Sequence[ModelJob]:
        following = self._round(queue, self.redis.stored)
        taken = self._do(self.records.dispatch.take(Work(queue))).jobs
        for each in taken:
            following.follow(each.job_id, each.worker_id)
        following.check_rest()
        self._check()
        return [self.model.jobs[each.job_id] for each in taken]

    def claim(self, job: ModelJob, worker: str) -> bool:
        """Claim a job, in a slot of the worker, or in none; say whether that was possible."""
        may = job.state == QUEUED and job.not_before <= self.model.now
        may = may and job.place is not Place.FOLLOWING
        claim = self._do(self.records.claim(job.id, worker_id=worker))
        assert (claim is not None) == may, f"{job.id} in {job.place}"
        if claim is not None:
            self._claimed(job, worker)
            job.token = claim.token
            assert claim.token not in self.tokens
            self.tokens[claim.token] = job.id
            assert claim.run == job.run
        self._check()
        return may

    def renew(self, job: ModelJob, token: str) -> None:
        with self._proving(job, token):
            self._do(self.records.renew(job.id, token))
            job.deadline = self.model.now + LEASE
        self._check()

    def progress(self, job: ModelJob, token: str, *, is_last: bool = False) -> None:
        """Write the record as the holder of a token; `is_last` begins the commit."""
        record = self._record(job)
        record.state = RUNNING
        record.progress.stage.bytes_done += 100
        if is_last:
            record.stage = job_pb2.JOB_STAGE_COMMITTING
        with self._proving(job, token):
            self._do(self.records.write(record, token))
            self.model.changed(job, RUNNING, Place.RUNNING)
            job.deadline = self.model.now + LEASE
            job.commits = job.commits or is_last
        self._check()

    def finish(self, job: ModelJob, token: str, *, well: bool = True) -> None:
        record = self._record(job)
        if well:
            succeeded(Media(id=job.key), cached=False)(record)
        else:
            failed(Failure(reason_pb2.REASON_STALLED, "It has stalled."))(record)
        with self._proving(job, token):
            self._do(self.records.write(record, token))
            self.model.end(job, SUCCEEDED if well else FAILED)
        self._check()

    def release(self, job: ModelJob, token: str, delay: int) -> None:
        waiting = None
        if delay:
            waiting = JobWaiting(cause=_CAUSE_RETRY)
            waiting.end_time.FromMilliseconds(self.model.now + delay)
        with self._proving(job, token):
            self._do(self.records.release(job.id, token, waiting=waiting))
            self.model.release(job, delay)
        self._check()

    def follow(self, job: ModelJob, token: str, leader: ModelJob) -> None:
        """Give a job up until another one has ended."""
        waiting = JobWaiting(cause=JobWaiting.CAUSE_SAME_MEDIA, job_id=leader.id)
        with self._proving(job, token):
            try:
                self._do(self.records.release(job.id, token, waiting=waiting, deferred=True))
            except CircularWait:
                assert self.model.is_awaited_by(job, leader)
            else:
                assert not self.model.is_awaited_by(job, leader)
                self.model.follow(job, leader)
        self._check()

    def move(self, job: ModelJob, token: str, media: str) -> None:
        """Find another identity for the media item of a job."""
        record = self._record(job)
        record.state, record.media.id = RUNNING, media
        holder = self.model.active.get(media)
        with self._proving(job, token):
            try:
                self._do(self.records.change_identity(record, token))
            except SingleFlightTaken as taken:
                taken_by = taken.job_id
                assert taken_by == holder != job.id
            else:
                assert holder in (None, job.id)
                del self.model.active[job.key]
                self.model.active[media] = job.id
                job.key = media
                self.model.changed(job, RUNNING, Place.RUNNING)
                job.deadline = self.model.now + LEASE
        self._check()

    def sweep(self) -> None:
        """Recover what is due, as a worker does each second."""
        stored = self.redis.stored.get("deadlines", [])
        due_ids = {
            name.decode()
            for name, score in zip(stored[::2], stored[1::2], strict=True)
            if int(score) <= self.model.now
        }
        due = [self.model.jobs[job_id] for job_id in due_ids - self.model.unswept]
        found = self._do(self.records.dispatch.sweep(100))
        self.model.unswept -= due_ids
        recovered = []
        for job in due:
            if job.place in (Place.DISPATCHED, Place.DELAYED):
                self.model.free(job)
                self.model.make_ready(job)
            else:
                job.deadline = self.model.now + RECHECK
                recovered.append(job)
        assert sorted(found) == sorted(job.id for job in recovered)
        self._check()
        for job in recovered:
            self._recover(job)

    def _recover(self, job: ModelJob) -> None:
        if job.has_ended:
            self._do_in_loop(self.records.recover(job.id))
            self._settle(job)
        elif job.place is Place.CHILDREN:
            assert isinstance(self._do(self.records.recover(job.id)), ChildrenChanged)
            self.advance(job)
        else:
            recovery = self._do(self.records.recover(job.id))
            job.losses += 1
            if job.losses < SETTINGS.worker_losses:
                assert isinstance(recovery, QueuedAgain)
                self.model.release(job, 0)
            else:
                self.model.end(job, FAILED)
        self._check()

    # Parents

    def add_child(
        self, parent: ModelJob, token: str, entry: str, *, media: str, is_stored: bool = False
    ) -> None:
        job, new = self._draft(parent.caller, "y.example", 1, media, "")
        new.made_for = parent.id
        if is_stored:
            job.state = SUCCEEDED
        found = self.model.jobs.get(parent.entries.get(entry, ""))
        is_known = found is not None
        if found is None and not is_stored:
            found = self.model.jobs.get(self.model.active.get(new.key, ""))
        order = len(parent.entries)
        adding = self.records.children.add(
            job, parent_id=parent.id, token=token, entry=entry, order=order
        )
        try:
            child = self._do(adding)
        except Orphaned:
            assert token != parent.token
        except CircularEntry:
            assert not is_known
            assert found is not None
            assert self.model.is_awaited_by(parent, found)
        else:
            assert token == parent.token != ""
            if found is None:
                found = new
                new.parents = [parent.id]
                parent.entries[entry] = new.id
                parent.counts["total"] += 1
                self._add(new, is_stored=is_stored)
                if not is_stored:
                    new.place = Place.TURN
                    parent.turns[new.id] = order
            elif not is_known:
                assert not self.model.is_awaited_by(parent, found)
                parent.entries[entry] = found.id
                if parent.id not in found.parents:
                    self._join(parent, found)
            assert child.id == found.id
        self._check()

    def leave_to_children(self, job: ModelJob, token: str) -> None:
        record = self._record(job)
        record.state = RUNNING
        children = list(dict.fromkeys(job.entries.values()))
        left = self._do(self.records.children.leave_parent(record, token, children))
        assert (left is not None) == (token == job.token != "")
        if left is not None:
            self.model.changed(job, RUNNING, Place.CHILDREN)
            job.token, job.deadline, job.has_left = "", None, True
            self.model.free(job)
        self._check()

    def advance(self, parent: ModelJob) -> None:
        """Go on with a parent: make its next children ready, and count those that have ended."""
        count = self._do(self.records.children.advance(parent.id))
        sent = 0
        if parent.place is Place.CHILDREN:
            begun = parent.counts["total"] - ended_children(parent) - len(parent.turns)
            free = max(0, SETTINGS.playlist_jobs - begun)
            for child_id in sorted(parent.turns, key=lambda each: (parent.turns[each], each))[
                :free
            ]:
                del parent.turns[child_id]
                self.model.send_child(child_id)
                sent += 1
        assert count == sent
        self._check()
        rolled_up = self._do(self.records.children.roll_up(parent.id))
        if rolled_up is not None:
            assert parent.place is Place.CHILDREN
            is_over = ended_children(parent) == parent.counts["total"]
            assert rolled_up.children.total == parent.counts["total"]
            if not is_over:
                self.model.changed(parent, RUNNING, Place.CHILDREN)
            elif parent.counts["succeeded"]:
                self.model.end(parent, SUCCEEDED)
            else:
                self.model.end(parent, FAILED)
        self._check()

    # Sources

    def acquire(self, job: ModelJob) -> None:
        """Ask for the permit of a source, in the worker."""
        source = self.model.sources[job.source]
        if source.permits.get(job.id, 0) <= self.model.now:
            self.model.give_permit_back(job)  # it has expired
        closed = source.closed_because(self.model.now)
        got = type(self._do(self.throttle._try_acquire(source.name, job.id, ""))).__name__
        if job.permit:
            assert got == "_Acquired"
            job.permit = ""
            source.extend(job.id, self.model.now + LEASE)
        elif got == "_Acquired":
            assert not closed, closed
            source.give(job.id, self.model.now, self.model.now + LEASE)
        self._check()

    def leave_source(self, job: ModelJob, outcome: str) -> None:
        """Tell the source's breaker what came of a job, and give the permit back."""
        source = self.model.sources[job.source]
        failure = {
            "available": None,
            "refused": Failure(reason_pb2.REASON_BOT_CHECK, "It refuses."),
            "rate_limited": Failure(
                reason_pb2.REASON_RATE_LIMITED, "The source is asked too often."
            ),
        }[outcome]
        settings = SOURCES[source.name]
        self._do(self.throttle._record(source.name, failure, job.id))
        source.record(
            job.id,
            outcome,
            self.model.now,
            open_ms=settings.block // timedelta(milliseconds=1),
            longest=settings.longest_block // timedelta(milliseconds=1),
        )
        self._check()
        self._do(self.throttle._release(source.name, job.id))
        source.remove(job.id)
        self._check()

    # Time

    def pass_time(self, milliseconds: int) -> None:
        Clock.milliseconds += milliseconds
        self.model.pass_time(milliseconds)
        self.redis.expire()
        self._check()

    # The end

    def drain(self) -> None:
        """Let all workers run: every job ends, and nothing is left of it after a while."""
        for _ in range(200):
            settled = all(job.has_ended and job.is_settled for job in self.model.jobs.values())
            if settled and not self.model.unswept:
                break
            self.announce_all()
            self.sweep()
            for queue in QUEUES:
                for job in self.dispatch(queue):
                    self.claim(job, job.worker)
            for job in self.in_place(Place.RUNNING):
                if job.source in self.model.sources and job.permit:
                    self.acquire(job)
                    self.leave_source(job, "available")
                if job.entries:
                    self.leave_to_children(job, job.token)
                else:
                    self.finish(job, job.token)
            self.pass_time(1_000)
        unfinished = [job.id for job in self.model.jobs.values() if not job.has_ended]
        assert not unfinished, f"{unfinished} never end"
        self.pass_time(2 * 24 * 3_600_000)
        self._do(self.records.count_by_state())
        left = {key.partition(":")[0] for key in self.redis.stored}
        assert left <= _KEPT, f"left: {left - _KEPT}"


_KEPT: Final = {"slots", "slots-until", "turns"}
