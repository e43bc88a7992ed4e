"""Entries of the journal: jobs as Redis has them, and as the bucket has them."""

from __future__ import annotations

from collections.abc import Iterable

from ingot_server.jobs.journal_index import Accepted
from ingot_server.jobs.lifecycle import has_ended, recreated
from ingot_server.library.manifest_pb2 import JournalEntry
from ingot_server.library.s3 import SMALL_BYTES


def entry_of(accepted: Accepted) -> JournalEntry:
    """Return what the bucket keeps of an accepted job."""
    return JournalEntry(
        job=accepted.job,
        caller=accepted.caller,
        request_id=accepted.request_id,
        fingerprint=accepted.fingerprint,
        upload_id=accepted.upload_id,
        single_flight_key=accepted.single_flight_key,
        webhook_urls=accepted.webhook_urls,
        traceparent=accepted.trace,
    )


def webhook_counts(entries: Iterable[JournalEntry]) -> dict[str, int]:
    """Return how many webhooks the entry of each job has, by the job's id."""
    return {entry.job.id: len(entry.webhook_urls) for entry in entries}


def fitting(entries: Iterable[JournalEntry]) -> list[JournalEntry]:
    """Return as many of the first entries as fit into a small object, but at least one."""
    fit: list[JournalEntry] = []
    size_bytes = 0
    for entry in entries:
        size_bytes += entry.ByteSize()
        if fit and size_bytes > SMALL_BYTES:
            break
        fit.append(entry)
    return fit


def accepted_of(entry: JournalEntry) -> Accepted:
    """Return the job of an entry as its caller requested it, or as it has ended."""
    return Accepted(
        entry.job if has_ended(entry.job) else recreated(entry.job),
        caller=entry.caller,
        request_id=entry.request_id,
        fingerprint=entry.fingerprint,
        upload_id=entry.upload_id,
        single_flight_key=entry.single_flight_key,
        webhook_urls=tuple(entry.webhook_urls),
        trace=entry.traceparent,
    )
