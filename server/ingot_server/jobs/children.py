"""Parents and children: a list of media and its entries, or a workflow and its parts.

    add, add, ... -> leave_parent -> advance, roll_up, advance, roll_up, ... -> the parent ends

A waiting parent is RUNNING and no worker holds it. The write that changes a child also updates the
counts of its parents (`children.lua`) and makes the parents overdue. The worker that ended the
child, or the sweep, then writes the counts into the parent's record. So a lost event delays a
parent by a second at most, and each child costs its parent a few bytes.

Invariants: an entry of a parent has one child, however often it is added; only the holder of the
parent's lease adds children; a parent's record never outlives those of its children.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Final

from ingot.v1 import job_pb2
from ingot.v1.job_pb2 import Job
from ingot_server.asyncio_tasks import gather_or_cancel
from ingot_server.config import Settings
from ingot_server.jobs import lifecycle, wishes
from ingot_server.jobs.changes import mirrored
from ingot_server.jobs.lifecycle import ChildCounts, has_ended, is_workflow
from ingot_server.jobs.outcomes import Orphaned
from ingot_server.jobs.transition import Transition, milliseconds
from ingot_server.redis import Argument
from ingot_server.tracing import scopes

# Between two writes of a parent's counts.
ROLLUP_INTERVAL: Final = timedelta(milliseconds=200)
# A waiting parent is overdue when its children change; this is a safety net.
WAITING_DEADLINE: Final = timedelta(minutes=1)
CANCELLED_AT_ONCE: Final = 16


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """What the script knows of the children of a job."""

    counts: ChildCounts
    version: int
    """Grows with every change of the counts."""
    child_ids: Sequence[str]


class Children:
    """The relations between jobs. Every method raises Failure with CACHE_UNAVAILABLE."""

    def __init__(self, transition: Transition, settings: Settings) -> None:
        self._transition = transition
        self._settings = settings

    async def add(
        self,
        child: Job,
        *,
        parent_id: str,
        token: str,
        entry: str,
        order: int,
        single_flight_key: str = "",
    ) -> Job:
        """Add a child for one `entry` of a parent; return the job for that entry.

        That is the child that the entry has, the active job for the same media item, or `child`. A
        new child, unless it has ended already, waits until `advance` makes it ready; that happens
        by `order`. `token` is that of the parent's lease, `single_flight_key` is as in
        `Records.create`. Raises Orphaned, or CircularEntry if the entry is the parent itself or a
        list that contains it.
        """
        new = lifecycle.copy_of(child)
        new.parent_job_id = parent_id
        arguments: dict[str, Argument] = {
            "request_id": "",
            "fingerprint": "",
            "parent": parent_id,
            "parent_token": token,
            "entry": entry,
            "order": order,
        }
        creation = await self._transition.create(new, single_flight_key, arguments)
        scopes.link(creation.trace)
        return creation.job

    async def leave_parent(self, parent: Job, token: str, child_ids: Sequence[str]) -> Job | None:
        """Leave a parent to its children: RUNNING without a lease. None if the lease is lost."""
        waiting = lifecycle.awaiting(parent, child_ids)
        return await self._transition.change(
            parent.id,
            partial(wishes.replaced, by=waiting),
            token=token,
            next_token="",
            waits_for_children=1,
            rollup_interval=0,
            counts_version="",
        )

    async def detach_children(self, parent_id: str, token: str) -> None:
        """Remove the children of a parent, which have ended, so that others can be added.

        `token` is that of the parent's lease. Raises Orphaned if that is lost. Safe to repeat.
        """
        outcome, *_ = await self._transition.call(
            "detach", parent_id, token=token, ttl=milliseconds(self._settings.job_ttl)
        )
        if outcome == b"lost":
            raise Orphaned

    async def advance(self, parent_id: str) -> int:
        """Make the next children of a waiting parent ready; return how many."""
        [count] = await self._transition.call(
            "advance", parent_id, limit=self._settings.playlist_jobs
        )
        return int(count)

    async def parents(self, job_id: str) -> list[str]:
        """Return the ids of the jobs that this job is a child of."""
        return await self._transition.parents(job_id)

    async def roll_up(self, parent_id: str) -> Job | None:
        """Write the counts of its children into a waiting parent, which ends with the last child.

        Returns the parent if it was written, which happens at most every ROLLUP_INTERVAL.
        """
        snapshot = await self._snapshot(parent_id)
        record = await self._transition.read_record(parent_id)
        if record is None or record.token:
            return None
        parts = await self._parts(record.job, snapshot.counts)
        roll_up = partial(_rolled_up, counts=snapshot.counts, parts=parts)
        new = roll_up(record.job)
        if new is None:
            return None
        schedule: dict[str, Argument] = {
            "deadline": milliseconds(WAITING_DEADLINE),
            "rollup_interval": milliseconds(ROLLUP_INTERVAL),
            "counts_version": snapshot.version,
        }
        if new == record.job:
            await self._transition.call("rest", parent_id, **schedule)
            return None
        conditions: dict[str, Argument] = {} if has_ended(new) else {"overdue": 1}
        return await self._transition.change(
            parent_id, roll_up, **conditions, **schedule, token="", waits_for_children=1
        )

    async def cancel_children(self, parent: Job) -> None:
        """Cancel those children of a cancelled parent that nobody else wants."""
        snapshot = await self._snapshot(parent.id)
        semaphore = asyncio.Semaphore(CANCELLED_AT_ONCE)
        await gather_or_cancel(
            self._cancel(child_id, parent.id, semaphore)
            for child_id in dict.fromkeys(snapshot.child_ids)
        )
        await self._transition.call("settle", parent.id)

    async def _cancel(self, child_id: str, parent_id: str, semaphore: asyncio.Semaphore) -> None:
        async with semaphore:
            child = await self._transition.change(child_id, lifecycle.cancelled, unshared=parent_id)
            if child is not None and (child.HasField("children") or is_workflow(child)):
                await self.cancel_children(child)

    async def _parts(self, parent: Job, counts: ChildCounts) -> list[Job]:
        """Return the children of a workflow if all have ended, or if it waits for its ingest.

        For all others this is an empty list.
        """
        if not is_workflow(parent) or (counts.total > 1 and counts.ended < counts.total):
            return []
        records = [await self._transition.read_record(each) for each in parent.child_job_ids]
        return [record.job for record in records if record is not None]

    async def _snapshot(self, parent_id: str) -> _Snapshot:
        counts, progress, children = await self._transition.call("children", parent_id)
        found = {
            name.decode(): int(value) for name, value in zip(counts[::2], counts[1::2], strict=True)
        }
        running = [tuple(map(float, each.split())) for each in progress]
        return _Snapshot(
            ChildCounts(
                total=found.get("total", 0),
                succeeded=found.get("succeeded", 0),
                failed=found.get("failed", 0),
                cancelled=found.get("cancelled", 0),
                cached=found.get("cached", 0),
                bytes_done=found.get("bytes", 0) + int(sum(done for done, _, _ in running)),
                bytes_per_second=sum(rate for _, rate, _ in running),
                fractions=sum(fraction for _, _, fraction in running),
            ),
            version=found.get("version", 0),
            child_ids=[child.decode() for child in children],
        )


def _rolled_up(job: Job, counts: ChildCounts, parts: Sequence[Job]) -> Job | None:
    new = lifecycle.rolled_up(job, counts, parts) if job.HasField("children") else None
    if new is None:
        return None
    if new.state == job_pb2.JOB_STATE_RUNNING and parts:
        mirrored(parts[0], fraction=new.progress.fraction)(new)
    return lifecycle.with_fraction(new, job)
