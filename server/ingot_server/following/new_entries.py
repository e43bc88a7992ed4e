"""Which entries of a list are new for a subscription. No I/O.

An entry is known by the source key of its URL, so that every way of writing the URL is the same
entry. Of the key only a hash is kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from ingot.v1.ingest_service_pb2 import ListEntry, ResolveResponse
from ingot.v1.subscription_pb2 import Subscription
from ingot_server.errors import Failure
from ingot_server.library.manifest_pb2 import StoredSubscription
from ingot_server.sources import pick

KEY_BYTES: Final = 8
MOST_SEEN: Final = 20_000
"""How many entries a subscription knows. It is more than a check looks at."""
MOST_MEDIA_IDS: Final = 500
_NOT_YET: Final = frozenset({ResolveResponse.KIND_LIVE, ResolveResponse.KIND_UPCOMING})


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of a list, and the hash that it is known by."""

    key: bytes
    listed: ListEntry


@dataclass(frozen=True, slots=True)
class Findings:
    """What a check found in a list."""

    entries: Sequence[Entry]
    """All different entries, in the order of the list."""
    new: Sequence[Entry]
    """Those that become jobs, in the order of the list."""
    skipped: frozenset[bytes]
    """The keys of those that are marked as seen without a job."""


def entry_key(url: str) -> bytes:
    """Return the hash that the entry with this URL is known by."""
    try:
        key = pick(url)[1].key
    except Failure:
        key = url
    return hashlib.sha256(key.encode()).digest()[:KEY_BYTES]


def find_new(stored: StoredSubscription, listed: Sequence[ListEntry]) -> Findings:
    """Return which of the entries that a list has now are new for the subscription."""
    seen = known_keys(stored)
    different: dict[bytes, Entry] = {}
    for each in listed:
        key = entry_key(each.url)
        different.setdefault(key, Entry(key, each))
    unknown = [entry for entry in different.values() if entry.key not in seen]
    if stored.HasField("mark_time"):
        return Findings(tuple(different.values()), (), frozenset(entry.key for entry in unknown))
    subscription = stored.subscription
    new, skipped = [], set[bytes]()
    for entry in unknown:
        if not _is_wanted(entry.listed, subscription):
            continue
        published = _is_in_time(entry.listed, subscription)
        if published or (published is None and stored.was_checked):
            new.append(entry)
        elif published is None:
            skipped.add(entry.key)
    return Findings(tuple(different.values()), new, frozenset(skipped))


def remember(stored: StoredSubscription, findings: Findings, made: Sequence[Entry]) -> None:
    """Note what a check has done: `made` are the entries of `findings` that became jobs.

    Of those that are known, the ones that the list has now are forgotten last.
    """
    known = known_keys(stored)
    added = findings.skipped.union(entry.key for entry in made)
    listed = [entry.key for entry in findings.entries if entry.key in known or entry.key in added]
    for key in listed:
        known.pop(key, None)
    kept = [*known, *reversed(listed)][-MOST_SEEN:]
    stored.seen = b"".join(kept)
    stored.subscription.seen_count = len(kept)
    stored.subscription.job_count += len(made)
    stored.was_checked = True


def known_keys(stored: StoredSubscription) -> dict[bytes, None]:
    """Return the keys of the entries that a subscription knows, those listed last at the end."""
    seen = stored.seen
    return dict.fromkeys(seen[at : at + KEY_BYTES] for at in range(0, len(seen), KEY_BYTES))


def _is_wanted(entry: ListEntry, subscription: Subscription) -> bool:
    """Return whether the title passes the filters, and the entry can be fetched by now."""
    records = subscription.options.HasField("record_duration")
    if entry.kind in _NOT_YET and not (records and entry.kind == ResolveResponse.KIND_LIVE):
        return False
    title = entry.title.casefold()

    def has_one_of(texts: Sequence[str]) -> bool:
        return any(text.casefold() in title for text in texts)

    included = not subscription.include_titles or has_one_of(subscription.include_titles)
    return included and not has_one_of(subscription.exclude_titles)


def _is_in_time(entry: ListEntry, subscription: Subscription) -> bool | None:
    """Return whether the entry was published late enough; None if the list does not say when."""
    if not subscription.HasField("published_after"):
        return True
    if not entry.HasField("publish_time"):
        return None
    earliest: datetime = subscription.published_after.ToDatetime(UTC)
    return bool(entry.publish_time.ToDatetime(UTC) >= earliest)
