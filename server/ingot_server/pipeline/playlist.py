"""Playlists, channels and albums: one parent job, and a child job for each entry.

    ingest_entries: worker of the parent      entries -> children -> the parent waits, no worker
    advance: any worker that sees one end     ready the next children -> roll up -> the parent ends

At most `settings.playlist_jobs` children of one parent are ready or run at a time, with a low
priority, so that a long list takes no more than its share. If a worker was lost, a
second expansion finds the existing children.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Final

from ingot.v1 import job_pb2, reason_pb2
from ingot.v1.job_pb2 import Job
from ingot_server.asyncio_tasks import gather_or_cancel
from ingot_server.config import Settings
from ingot_server.drafts import identified
from ingot_server.errors import Failure
from ingot_server.event_log import EventLogger
from ingot_server.intake import Intake, refused
from ingot_server.jobs.changes import found_list
from ingot_server.jobs.dispatch import Dispatcher
from ingot_server.jobs.display_name import name_of_url
from ingot_server.jobs.lease import Lease
from ingot_server.jobs.lifecycle import has_ended, ingest_kind, is_workflow
from ingot_server.jobs.outcomes import CircularEntry
from ingot_server.jobs.queue import Queue
from ingot_server.jobs.records import Records
from ingot_server.library.recipes import single_flight_key
from ingot_server.log_events import Event
from ingot_server.resolve import ResolvedUrl

logger = EventLogger(__name__)

ENTRIES_AT_ONCE: Final = 16
LONGEST_TITLE: Final = 1000
_ENTRIES: Final = "entries"


class Playlists:
    """Parents of lists and their children. One object for all jobs of a worker."""

    def __init__(self, intake: Intake, records: Records, queue: Queue, settings: Settings) -> None:
        self._intake = intake
        self._records = records
        self._dispatcher = Dispatcher(records.dispatch, queue)
        self._settings = settings

    async def ingest_entries(
        self, urls: Sequence[str], job: Job, lease: Lease, *, total: int = 0, title: str = ""
    ) -> None:
        """Create a child of `job` for each of `urls`, and leave the job to its children.

        `total` is the number of entries according to the source, if it sent fewer. Afterwards the
        lease is no longer held. Raises LeaseLost, and before any child is created Failure:
        NOT_MEDIA for an empty list, INVALID_REQUEST if no list was requested, TOO_MANY_ENTRIES.
        Safe to repeat.
        """
        title = title[:LONGEST_TITLE]
        parent = await self._records.get(job.parent_job_id) if job.parent_job_id else None
        self._check(job, parent, max(total, len(urls)))
        await lease.update(found_list(title))
        around = {each.media.id for each in (job, parent) if each is not None}
        child_ids: list[str] = []
        for first in range(0, len(urls), ENTRIES_AT_ONCE):
            entries = urls[first : first + ENTRIES_AT_ONCE]
            child_ids += await gather_or_cancel(
                self._child(url, first + at, job, lease, title, around)
                for at, url in enumerate(entries)
            )
        # An entry that is in the list twice has one child.
        await lease.wait_for_children(list(dict.fromkeys(each for each in child_ids if each)))
        await self.advance(job.id)

    async def advance(self, parent_id: str) -> None:
        """Make the next children of a waiting job ready, and roll up all of them."""
        try:
            if await self._records.children.advance(parent_id):
                await self._dispatcher.run_or_warn()
            parent = await self._records.children.roll_up(parent_id)
        except Failure as failure:
            # The sweep tries again.
            logger.warning(
                Event.LIST_NOT_ADVANCED,
                "children of job %s: %s",
                parent_id,
                failure.message,
                job_id=parent_id,
                reason=failure.reason,
            )
            return
        if parent is not None and has_ended(parent):
            await self.ended(parent_id)
        elif parent is not None and parent.state == job_pb2.JOB_STATE_QUEUED:
            await self._dispatcher.run_or_warn()

    async def ended(self, job_id: str) -> None:
        """Advance all parents of a job that has ended."""
        try:
            parents = await self._records.children.parents(job_id)
        except Failure as failure:
            logger.warning(
                Event.LIST_NOT_ADVANCED,
                "parents of job %s: %s",
                job_id,
                failure.message,
                job_id=job_id,
                reason=failure.reason,
            )
            return
        for parent_id in parents:
            await self.advance(parent_id)

    def _check(self, job: Job, parent: Job | None, total: int) -> None:
        if not total:
            raise Failure(reason_pb2.REASON_NOT_MEDIA, "The list has no entries. Use another list.")
        is_entry = bool(job.parent_job_id) and not (parent is not None and is_workflow(parent))
        if not (job.options.playlist or is_entry):
            raise _list_not_requested(total)
        limit = self._settings.max_playlist_entries
        if job.options.HasField("max_entries"):
            limit = min(limit, job.options.max_entries)
        if total > limit:
            raise Failure(
                reason_pb2.REASON_TOO_MANY_ENTRIES,
                f"The list has at least {total} entries, and the limit is {limit}. Ingest the "
                "entries one by one, or raise max_entries or, on the server, "
                "INGOT_MAX_PLAYLIST_ENTRIES.",
                metadata={_ENTRIES: str(total), "limit": str(limit)},
            )
        if parent is not None and parent.parent_job_id:
            raise Failure(
                reason_pb2.REASON_TOO_MANY_ENTRIES,
                "The list is in a list that is in a list, and only two levels are ingested. "
                "Ingest it by itself.",
            )

    async def _child(
        self, url: str, order: int, parent: Job, lease: Lease, title: str, around: Container[str]
    ) -> str:
        """Return the id of the entry's job, or an empty text if it leads back to a list `around`.

        `order` is the entry's place in the list, and `title` that of the list.
        """
        child = await self._decide(url, parent, title)
        if child.media.id in around:
            return ""
        entry, key = child.media.id or url, single_flight_key(child)
        try:
            return (
                await lease.add_child(child, entry=entry, order=order, single_flight_key=key)
            ).id
        except CircularEntry:
            return ""

    async def _decide(self, url: str, parent: Job, title: str) -> Job:
        """Return the entry's job, which has already ended if nothing has to be fetched for it."""
        child = Job(
            kind=ingest_kind(parent.recipes),
            priority=job_pb2.JOB_PRIORITY_LOW,
            requested_by=parent.requested_by,
            display_name=name_of_url(url),
            url=url,
            labels=parent.labels,
            selection=parent.selection,
            options=parent.options,
            recipes=parent.recipes,
            max_age=parent.max_age if parent.HasField("max_age") else None,
            list_title=title or parent.list_title,
        )
        child.options.playlist = False
        try:
            resolved_url = self._resolve(child)
            child = identified(child, resolved_url)
            self._intake.check_destination(resolved_url)
            return (await self._intake.decide(resolved_url, child, is_entry=True)).job
        except Failure as failure:
            return refused(child, failure).job

    def _resolve(self, child: Job) -> ResolvedUrl:
        """Return what an entry names: a media item, or else a list, which `child` then asks for."""
        if child.url.partition(":")[0].lower() not in {"http", "https"}:
            # A list from the web must not lead to files of this installation.
            raise Failure(
                reason_pb2.REASON_UNSUPPORTED_URL,
                "An entry of a list must have an http or https URL. Ingest this one by itself.",
            )
        try:
            return self._intake.resolve(child.url, child.selection, child.options)
        except Failure as failure:
            child.options.playlist = True
            try:
                return self._intake.resolve(child.url, child.selection, child.options)
            except Failure:
                child.options.playlist = False
                raise failure from None


def names_list(failure: Failure) -> bool:
    """Return whether a job failed only because its URL names a list that was not requested."""
    return failure.reason == reason_pb2.REASON_INVALID_REQUEST and _ENTRIES in failure.metadata


def _list_not_requested(total: int) -> Failure:
    return Failure(
        reason_pb2.REASON_INVALID_REQUEST,
        f"The URL names a list of {total} entries. Set options.playlist to ingest all of them, or "
        "use the URL of one.",
        metadata={_ENTRIES: str(total)},
        violations={"options.playlist": "must be set for the URL of a list"},
    )
