"""Parents and children: the job of a list of media, and one job for each of its entries.

    add, add, ... -> wait -> next, summarise, next, summarise, ... -> the parent ends

A parent that waits is RUNNING and no worker has it. Every change of a child is counted for its
parents within the write of that change (`transition.lua`), which also makes them due; whoever comes
by, the worker that ended the child or the sweep, writes the sums. So a lost event costs a
second, and the children of one job cost it a few bytes each.

What always holds: one entry of one parent has one child, however often it is added; only the holder
of the parent's lease adds; a parent's records end after, or with, none of its children's.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from ingot.v1.job_pb2 import Job
from ingot_server.asyncio_tasks import gather_or_cancel
from ingot_server.config import Settings
from ingot_server.jobs import lifecycle
from ingot_server.jobs.lifecycle import ChildCounts, has_ended, is_workflow
from ingot_server.jobs.transition import Transition, milliseconds

# Between two writes of a parent's sums.
PULSE: Final = timedelta(milliseconds=200)
# A waiting parent is due when its children change; this is for what nobody thought of.
LOOK_AFTER: Final = timedelta(minutes=1)
CANCELLED_AT_ONCE: Final = 16


class Orphaned(Exception):
    """The parent has ended, or is somebody else's by now: it takes no more children."""


class Children:
    """The bonds between jobs. Every method raises Failure with CACHE_UNAVAILABLE."""

    def __init__(self, transition: Transition, settings: Settings) -> None:
        self._transition = transition
        self._settings = settings

    async def add(
        self, child: Job, *, parent_id: str, token: str, entry: str, order: int, slot: str = ""
    ) -> Job | None:
        """The child job for one `entry` of a parent: the one it has, the one under way, or `child`.

        A new one, unless it has ended already, waits until `next` names it. `token` is that of the
        parent's lease, `slot` as `Records.create` has it. None when the entry is the parent itself,
        or a list that the parent is in. Raises Orphaned.
        """
        new = lifecycle.created(child)
        new.parent_job_id = parent_id
        outcome, *content = await self._transition.run(
            "create",
            new.id,
            **self._transition.content(new),
            change=secrets.token_hex(8),
            deadline=milliseconds(timedelta(days=1)),
            media_id=slot or new.media.id,
            request_id="",
            fingerprint="",
            parent=parent_id,
            parent_token=token,
            entry=entry,
            order=order,
        )
        if outcome == b"orphaned":
            raise Orphaned(f"job {parent_id} takes no more children")
        return Job.FromString(content[0]) if content else None

    async def wait(self, parent: Job, token: str, child_ids: Sequence[str]) -> Job | None:
        """Leaves a parent to its children: RUNNING, nobody's. None when the lease is lost."""
        return await self._transition.change(
            parent.id,
            lambda _: lifecycle.awaiting(parent, child_ids),
            token=token,
            next_token="",
            waits=1,
            pulse=0,
            version="",
        )

    async def detach_children(self, parent_id: str, token: str) -> None:
        """Forgets the children of a parent, which have ended; others may be added to it.

        `token` is that of the parent's lease. Raises Orphaned when that is lost. Safe to repeat.
        """
        outcome, *_ = await self._transition.run(
            "disown", parent_id, token=token, ttl=milliseconds(self._settings.job_ttl)
        )
        if outcome == b"lost":
            raise Orphaned(f"job {parent_id} is no longer held")

    async def next(self, parent_id: str) -> list[str]:
        """The children that a worker is to be told of now; the sweep tells of them again."""
        children = await self._transition.run(
            "next",
            parent_id,
            window=self._settings.playlist_jobs,
            deadline=milliseconds(self._settings.resend_interval),
        )
        return [child.decode() for child in children]

    async def parents(self, job_id: str) -> list[str]:
        """The ids of the jobs that this one is a part of."""
        return await self._transition.parents(job_id)

    async def summarise(self, parent_id: str) -> Job | None:
        """Writes how the children of a waiting parent stand, and its end after the last one.

        Answers with the parent if it was written: its sums are, five times a second at most.
        """
        counts, moving, _ = await self._transition.run("tally", parent_id)
        counts, version = _tally(counts, moving)
        record = await self._transition.read(parent_id)
        if record is None or record.token or not record.job.HasField("children"):
            return None
        parts = await self._parts(record.job, counts)
        new = lifecycle.rolled_up(record.job, counts, parts)
        if new is None:
            return None
        if new == record.job:
            await self._transition.run(
                "rest",
                parent_id,
                deadline=milliseconds(LOOK_AFTER),
                pulse=milliseconds(PULSE),
                version=version,
            )
            return None
        conditions = {} if has_ended(new) else {"overdue": 1}
        return await self._transition.change(
            parent_id,
            lambda job: (
                lifecycle.rolled_up(job, counts, parts) if job.HasField("children") else None
            ),
            **conditions,
            token="",
            waits=1,
            deadline=milliseconds(LOOK_AFTER),
            pulse=milliseconds(PULSE),
            version=version,
        )

    async def _parts(self, parent: Job, counts: ChildCounts) -> list[Job]:
        """The children of a workflow, once all have ended: what it ends with."""
        if not is_workflow(parent) or counts.ended < counts.total:
            return []
        records = [await self._transition.read(child_id) for child_id in parent.child_job_ids]
        return [record.job for record in records if record is not None]

    async def cancel_children(self, parent: Job) -> None:
        """Cancels those that were made for a cancelled parent and that nobody else asked for."""
        _, _, children = await self._transition.run("tally", parent.id)
        turns = asyncio.Semaphore(CANCELLED_AT_ONCE)

        async def cancel(child_id: str) -> None:
            async with turns:
                await self._cancel(child_id, parent.id)

        await gather_or_cancel(cancel(child.decode()) for child in set(children))
        await self._transition.run("settle", parent.id)

    async def _cancel(self, child_id: str, parent_id: str) -> None:
        child = await self._transition.change(
            child_id,
            lambda job: lifecycle.cancelled(job) if job.parent_job_id == parent_id else None,
            unshared=1,
        )
        if child is not None and (child.HasField("children") or is_workflow(child)):
            await self.cancel_children(child)


def _tally(ended: list[bytes], moving: list[bytes]) -> tuple[ChildCounts, int]:
    """What `transition.lua` counts, and the version of it."""
    found = {name.decode(): int(value) for name, value in zip(ended[::2], ended[1::2], strict=True)}
    measures = [tuple(map(float, each.split())) for each in moving]
    counts = ChildCounts(
        total=found.get("total", 0),
        succeeded=found.get("succeeded", 0),
        failed=found.get("failed", 0),
        cancelled=found.get("cancelled", 0),
        cached=found.get("cached", 0),
        bytes_done=found.get("bytes", 0) + int(sum(done for done, _, _ in measures)),
        bytes_per_second=sum(rate for _, rate, _ in measures),
        fractions=sum(fraction for _, _, fraction in measures),
    )
    return counts, found.get("version", 0)
