"""Playlists, channels and albums: one parent job, and a child job for each entry.

    expand: worker of the parent      entries -> children -> the parent waits, without a worker
    advance: whoever sees one end     next children to the workers -> sums -> the parent's end

At most `settings.playlist_jobs` children of one parent are with the workers at once, and behind the
jobs of other callers; so a long list takes no more than its share. Expanding again, after a worker
was lost, finds the children that are there.
"""

from __future__ import annotations

import logging
from collections.abc import Container, Sequence
from typing import Final
from urllib.parse import urlsplit

from ingot.v1 import job_pb2, reason_pb2
from ingot.v1.ingest_service_pb2 import IngestRequest
from ingot.v1.job_pb2 import Job
from ingot_server.asyncio_tasks import gather_or_cancel
from ingot_server.config import Settings
from ingot_server.egress.addresses import check_host
from ingot_server.errors import Failure
from ingot_server.jobs.lease import Lease
from ingot_server.jobs.lifecycle import has_ended, is_conversion, is_workflow
from ingot_server.jobs.outcomes import CircularEntry
from ingot_server.jobs.queue import Queue
from ingot_server.jobs.records import Records
from ingot_server.library.catalog import Catalog
from ingot_server.library.freshness import age
from ingot_server.library.identity import media_id
from ingot_server.library.recipes import single_flight_key
from ingot_server.library.side_file_requests import lacking
from ingot_server.pipeline.attempt import record_duration
from ingot_server.sources import Source, pick
from ingot_server.sources.source import Identity

logger = logging.getLogger(__name__)

ENTRIES_AT_ONCE: Final = 16
LONGEST_TITLE: Final = 1000
_ENTRIES: Final = "entries"


class Playlists:
    """Jobs that consist of others. One for all jobs of a worker."""

    def __init__(
        self, catalog: Catalog, records: Records, queue: Queue, settings: Settings
    ) -> None:
        self._catalog = catalog
        self._records = records
        self._queue = queue
        self._settings = settings

    async def ingest_entries(
        self, urls: Sequence[str], job: Job, lease: Lease, *, total: int = 0, title: str = ""
    ) -> None:
        """Makes the children of `job`, one for each of `urls`, and leaves the job to them.

        `total` is how many entries the source counts, where it gave fewer. Afterwards the lease is
        no longer held. Raises Failure before any child is made: NOT_MEDIA for an empty list,
        INVALID_REQUEST for one that nobody asked for, TOO_MANY_ENTRIES; LeaseLost. Safe to repeat.
        """
        title = title[:LONGEST_TITLE]
        parent = await self._records.get(job.parent_job_id) if job.parent_job_id else None
        self._check(job, parent, max(total, len(urls)))
        around = {each.media.id for each in (job, parent) if each is not None}
        child_ids: list[str] = []
        for first in range(0, len(urls), ENTRIES_AT_ONCE):
            entries = urls[first : first + ENTRIES_AT_ONCE]
            child_ids += await gather_or_cancel(
                self._child(url, first + at, job, lease, title, around)
                for at, url in enumerate(entries)
            )

        def mutate(parent: Job) -> None:
            parent.media.title = title

        lease.note(mutate)
        # A list that names an entry twice has one child for it.
        await lease.wait(list(dict.fromkeys(each for each in child_ids if each)))
        await self.advance(job.id)

    async def advance(self, parent_id: str) -> None:
        """Hands the next children of a waiting job to the workers, and writes how all stand."""
        try:
            for child in await self._records.get_many(
                await self._records.children.dispatch(parent_id)
            ):
                if child is None:
                    continue
                if is_conversion(child):
                    await self._queue.send(child.id, conversion=True)
                else:
                    await self._queue.send(child.id, IngestRequest.PRIORITY_LOW)
            parent = await self._records.children.roll_up(parent_id)
        except Failure as failure:
            # The sweep comes back to it.
            logger.warning("children of job %s: %s", parent_id, failure.message)
            return
        if parent is not None and has_ended(parent):
            await self.ended(parent_id)

    async def ended(self, job_id: str) -> None:
        """Goes on with the lists that a job is a part of, after it has ended."""
        try:
            parents = await self._records.children.parents(job_id)
        except Failure as failure:
            logger.warning("parents of job %s: %s", job_id, failure.message)
            return
        for parent_id in parents:
            await self.advance(parent_id)

    def _check(self, job: Job, parent: Job | None, total: int) -> None:
        if not total:
            raise Failure(reason_pb2.REASON_NOT_MEDIA, "The list has no entries.")
        is_entry = bool(job.parent_job_id) and not (parent is not None and is_workflow(parent))
        if not (job.options.playlist or is_entry):
            raise _unasked(total)
        limit = self._settings.max_playlist_entries
        if job.options.HasField("max_entries"):
            limit = min(limit, job.options.max_entries)
        if total > limit:
            raise Failure(
                reason_pb2.REASON_TOO_MANY_ENTRIES,
                f"The list has {total} entries or more, and {limit} are allowed. Ingest its "
                "entries by themselves, or raise max_entries or INGOT_MAX_PLAYLIST_ENTRIES.",
                metadata={_ENTRIES: str(total), "limit": str(limit)},
            )
        if parent is not None and parent.parent_job_id:
            raise Failure(
                reason_pb2.REASON_TOO_MANY_ENTRIES,
                "A list in a list in a list is not followed. Ingest it by itself.",
            )

    async def _child(
        self, url: str, order: int, parent: Job, lease: Lease, title: str, around: Container[str]
    ) -> str:
        """The id of the entry's job; empty when the entry leads back to a list `around` it."""
        child = Job(
            kind=job_pb2.JOB_KIND_INGEST,
            url=url,
            labels=parent.labels,
            selection=parent.selection,
            options=parent.options,
            recipes=parent.recipes,
            list_title=title or parent.list_title,
        )
        child.options.playlist = False
        if parent.HasField("max_age"):
            child.max_age.CopyFrom(parent.max_age)
        try:
            await self._identify(child)
        except Failure as failure:
            child.state = job_pb2.JOB_STATE_FAILED
            child.error.CopyFrom(failure.status())
        if child.media.id in around:
            return ""
        entry, key = child.media.id or url, single_flight_key(child)
        try:
            return (
                await lease.add_child(child, entry=entry, order=order, single_flight_key=key)
            ).id
        except CircularEntry:
            return ""

    async def _identify(self, child: Job) -> None:
        """Fills in which media the entry is, and the media itself where it is stored."""
        if child.url.partition(":")[0].lower() not in {"http", "https"}:
            # What a stranger's list names may not lead to files of this installation.
            raise Failure(
                reason_pb2.REASON_UNSUPPORTED_URL, "An entry of a list is an http or https URL."
            )
        source, identity = _named(child)
        child.url = identity.url
        media = child.media
        recorded = record_duration(source, child)
        media.id = media_id(identity.key, child.selection, recorded)
        media.MergeFrom(identity.media(media.id))
        media.selection.CopyFrom(child.selection)
        if source.has_public_host:
            check_host(
                urlsplit(identity.url).hostname or "",
                allow_loopback=self._settings.egress_allow_loopback,
            )
        oldest = child.max_age.ToTimedelta() if child.HasField("max_age") else None
        asked_id = media.id
        media.id, stored = await self._catalog.find(asked_id)
        mutable = recorded is not None or (source.mutable and media.id == asked_id)
        is_old = oldest is not None and stored is not None and age(stored) > oldest
        if stored is not None and not (mutable and is_old) and not lacking(stored, child.options):
            made = [await self._catalog.conversion(stored, recipe) for recipe in child.recipes]
            if None in made:
                return
            child.conversions.extend(each for each in made if each is not None)
            child.state = job_pb2.JOB_STATE_SUCCEEDED
            child.cached = True
            media.CopyFrom(stored)
            return
        remembered = await self._catalog.remembered_failure(media.id)
        if remembered is not None and (oldest is None or remembered[1] <= oldest):
            raise remembered[0]


def names_list(failure: Failure) -> bool:
    """Whether a job failed only because its URL names a list that was not asked for."""
    return failure.reason == reason_pb2.REASON_INVALID_REQUEST and _ENTRIES in failure.metadata


def _unasked(total: int) -> Failure:
    return Failure(
        reason_pb2.REASON_INVALID_REQUEST,
        f"The URL names a list of {total} media, not one. Set options.playlist to take all of "
        "them, or use the URL of one.",
        metadata={_ENTRIES: str(total)},
        violations={"options.playlist": "must be set for the URL of a list"},
    )


def _named(child: Job) -> tuple[Source, Identity]:
    """What an entry names: a media, or else a list of them, which the child is then to take."""
    try:
        return pick(child.url)
    except Failure as failure:
        try:
            named = pick(child.url, playlist=True)
        except Failure:
            raise failure from None
        child.options.playlist = True
        return named
